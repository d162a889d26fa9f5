package nginxproxy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// DebugGlobal are the settings for all sites as nginx-proxy's debug endpoint names them, as a JSON
// object.
func DebugGlobal(c config.Config) string {
	n := c.Nginx
	return marshal(map[string]any{
		"acme_http_challenge": n.Challenges, "default_host": c.Routes.DefaultHost, "default_root_response": n.DefaultRoot,
		"enable_access_log": n.AccessLog != "off", "enable_debug_endpoint": fmt.Sprint(n.DebugEndpoint), "enable_http2": fmt.Sprint(n.HTTP2),
		"enable_http3": fmt.Sprint(n.HTTP3), "enable_http_on_missing_cert": fmt.Sprint(c.Routes.HTTPWithoutCert), "enable_ipv6": n.IPv6,
		"enable_json_logs": n.LogFormat == "json", "external_http_port": fmt.Sprint(n.HTTPPort), "external_https_port": fmt.Sprint(n.HTTPSPort),
		"hsts": c.Routes.HSTS, "https_method": c.Routes.HTTPSMethod, "ssl_policy": c.Routes.TLSPolicy, "trust_default_cert": c.Routes.DefaultCert,
		"trust_downstream_proxy": len(n.TrustedProxies) > 0,
	})
}

// debugRequest are what nginx knows of the request itself.
const debugRequest = `{"host":"$host","https":"$https","protocol":"$server_protocol","ssl_cipher":"$ssl_cipher","ssl_protocol":"$ssl_protocol"}`

// DebugAnswer is the answer of nginx-proxy's debug endpoint for a site, with variables of nginx in
// the part about the request alone. global is that of DebugGlobal. fits reports whether an answer
// is short enough; without the paths it always is.
func DebugAnswer(site route.Site, pools route.Pools, global string, fits func(string) bool) string {
	e, regex := site.Edge, strings.HasPrefix(site.Host, "~")
	host := site.Host
	if regex {
		host = "Hostname is a regexp and unsafe to include in the debug response." // as nginx-proxy says it
	}
	paths := map[string]any{}
	vhost := map[string]any{
		"acme_http_challenge_enabled": e.Challenges != route.ChallengesNone, "acme_http_challenge_legacy": e.Challenges == route.ChallengesRedirected,
		"cert": site.Cert.Name, "cert_ok": site.TLS, "default": site.CatchAll, "enable_debug_endpoint": true, "hostname": host, "hsts": e.HSTS,
		"http2_enabled": e.HTTP2 != route.Off, "http3_enabled": e.HTTP3 == route.On, "https_method": httpsMethod(site), "is_regexp": regex,
		"paths": paths, "server_tokens": string(e.ServerTokens), "ssl_policy": e.TLSPolicy,
	}
	for _, l := range site.Locations {
		ports := map[string][]map[string]string{}
		for _, s := range pools[site.PoolKey(l)].Servers {
			port := fmt.Sprint(s.Addr.Port())
			ports[port] = append(ports[port], map[string]string{"Name": s.Ref})
		}
		paths[l.Path] = map[string]any{"dest": l.Dest, "proto": string(l.Scheme), "ports": ports, "network_tag": networkTag(l)}
	}
	answer := map[string]any{"global": json.RawMessage(cmp.Or(global, "{}")), "vhost": vhost}
	write := func() string { return strings.TrimSuffix(marshal(answer), "}") + `,"request":` + debugRequest + "}" }
	text := write()
	if !fits(text) {
		delete(vhost, "paths")
		answer["warning"] = "Virtual paths configuration for this hostname is too large and has been stripped from response."
		text = write()
	}
	return text
}

// networkTag is whom a path is for, in nginx-proxy's words.
func networkTag(l route.Location) string {
	if len(l.Allow) > 0 {
		return "internal"
	}
	return "external"
}

// httpsMethod is what a site does about plain HTTP, in nginx-proxy's words.
func httpsMethod(site route.Site) string {
	switch {
	case !site.TLS && site.NoTLS:
		return "nohttps"
	case site.Plain == route.Refuse:
		return "nohttp"
	case site.Plain == route.Redirect, site.Plain == route.Unavailable:
		return "redirect"
	}
	return "noredirect"
}

// marshal writes JSON without a $, which nginx would take for the beginning of a variable.
func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}" // there is nothing in it that has no form as JSON
	}
	return strings.ReplaceAll(string(b), "$", `\u0024`)
}
