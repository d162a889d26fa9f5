package runtime

import "os"

// malloc are settings of glibc's memory allocator, for nginx in mode Exec; the unit
// file has the same. They rely on glibc 2.26 or newer and do nothing elsewhere.
// Their effect is in the rows "start" and "CPU per change" of `make bench-routes`.
//
// For each map nginx zeroes 1.2 MB while it reads its configuration, and frees them
// again (ngx_http_map_module.c, NGX_HASH_LARGE). glibc gives such memory back to the
// kernel each time, and fetching it again page by page is most of what a test or
// a reload costs. With these thresholds (mallopt(3), in bytes) it keeps up to 4 MiB.
//
// At the end of a reload the master frees the configuration of before, thousands of pieces,
// and forks. glibc leaves small pieces as they are in case they are wanted again, and
// sorts and joins them when a large one is: then each new worker does that, and has to
// copy every page of it. Without those caches they are joined when they are freed, which
// costs a TLS handshake a twentieth more, and a new worker half as much.
var malloc = []string{
	"MALLOC_MMAP_THRESHOLD_=4194304", "MALLOC_TRIM_THRESHOLD_=4194304",
	"GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}

// environment is the environment of nginx: it serves the Internet, so it inherits no
// credentials and no sockets.
func environment() []string {
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, malloc...)
	for _, name := range []string{"TZ", "LANG", "LD_LIBRARY_PATH", "OPENSSL_CONF"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
