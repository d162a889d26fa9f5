package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// Region is a simulated cloud with several pretend hosts, each in a network
// namespace of its own with its own agent, nginx and containers. Its public
// addresses are real: an association moves the packets.
type Region struct {
	*Provider

	bin     string
	docker  *client.Client
	network string       // of the containers
	bridge  string       // of the machine, for that network
	subnet  netip.Prefix // of that network
	hosts   []*Instance
}

// Instance is one host of a Region.
type Instance struct {
	*Stage
}

// Launch says what instance to launch.
type Launch struct {
	// Spec is the instance; its private address is chosen here.
	Spec simaws.InstanceSpec
	// Cluster is the ECS cluster that it is in.
	Cluster string
	// Config is added to the agent's configuration; see Options.
	Config string
	// Hosts are the names that the certificates cover. Only those of the first
	// instance count: the others have the same ones.
	Hosts []string
}

// NewRegion makes an empty cloud and its network. It needs root.
func NewRegion(ctx context.Context, bin string) (*Region, error) {
	p, err := NewProvider()
	if err != nil {
		return nil, err
	}
	r := &Region{Provider: p, bin: bin}
	if err := r.makeNetwork(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// makeNetwork makes a network for the containers of all hosts.
func (r *Region) makeNetwork(ctx context.Context) (err error) {
	if r.docker, err = client.New(client.FromEnv); err != nil {
		return err
	}
	name := fmt.Sprintf("nagaya-region-%08x", rand.Uint32())
	made, err := r.docker.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge", Labels: map[string]string{stageLabel: name}})
	if err != nil {
		return fmt.Errorf("making a network for the containers: %w", err)
	}
	r.network, r.bridge = name, "br-"+made.ID[:12]
	is, err := r.docker.NetworkInspect(ctx, made.ID, client.NetworkInspectOptions{})
	if err != nil {
		return err
	}
	for _, c := range is.Network.IPAM.Config {
		if c.Subnet.Addr().Is4() {
			r.subnet = c.Subnet
			return nil
		}
	}
	return fmt.Errorf("the network of the containers has no IPv4 subnet: %+v", is.Network.IPAM)
}

// Launch sets up an instance. Its agent does not run yet.
func (r *Region) Launch(ctx context.Context, l Launch) (*Instance, error) {
	n := len(r.hosts)
	private := netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + n)})
	h, err := r.VPC.AddHost(private)
	if err != nil {
		return nil, err
	}
	// Docker gives addresses to containers from the beginning of the subnet.
	last := r.subnet.Masked().Addr().As4()
	bits := r.subnet.Bits()
	for i := bits; i < 32; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	last[3] -= byte(1 + n)
	if err := h.Bridge(r.bridge, netip.PrefixFrom(netip.AddrFrom4(last), bits)); err != nil {
		return nil, err
	}
	l.Spec.PrivateIP = private.String()
	id, err := r.Cloud.AddInstance(l.Spec)
	if err != nil {
		return nil, err
	}
	if l.Cluster != "" {
		if _, err := r.Cloud.AddContainerInstance(simaws.ContainerInstanceSpec{Cluster: l.Cluster, InstanceID: id}); err != nil {
			return nil, err
		}
	}
	o := Options{Bin: r.bin, Hosts: l.Hosts, Config: l.Config, Host: h, Network: r.network}
	if n > 0 {
		o.CertsOf = r.hosts[0].Stage
	}
	s, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	i := &Instance{Stage: s}
	i.InstanceID = id
	i.ecs.set = func(document any) error {
		text, err := json.Marshal(document)
		if err == nil {
			err = r.Cloud.SetTasks(id, text)
		}
		return err
	}
	i.Env = []string{"NAGAYA_ECS_AGENT_URL=" + r.Cloud.Endpoints().ECSAgent[id]}
	for k, v := range r.Cloud.Env(id) {
		i.Env = append(i.Env, k+"="+v)
	}
	r.hosts = append(r.hosts, i)
	return i, nil
}

// Client is a client on the internet that speaks to a public address whatever the
// URL's host is, and trusts the authority of the hosts' certificates.
func (r *Region) Client(public string) (*http.Client, error) {
	if len(r.hosts) == 0 {
		return nil, errors.New("no instance has been launched")
	}
	return Trusting(r.hosts[0].CAFile(), func(ctx context.Context, port string) (net.Conn, error) {
		return r.VPC.Dial(ctx, "tcp", net.JoinHostPort(public, port))
	})
}

// Unplug takes the instance off the network; EC2 is not told.
func (i *Instance) Unplug() error { return i.host.Unplug() }

// PowerOff takes the instance off the network and ends everything on it at once;
// EC2 is not told.
func (i *Instance) PowerOff(ctx context.Context) error {
	err := i.Unplug()
	i.KillAgent()
	return errors.Join(err, i.endNginx(), i.removeContainers(ctx))
}

// Close ends everything and takes it away.
func (r *Region) Close() error {
	var errs []error
	for _, i := range r.hosts {
		errs = append(errs, i.Close())
	}
	if r.docker != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if r.network != "" {
			_, err := r.docker.NetworkRemove(ctx, r.network, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
		errs = append(errs, r.docker.Close())
	}
	return errors.Join(append(errs, r.Provider.Close())...)
}
