package nginx

import (
	"strings"
)

// upstreamDefaults writes the directives for requests to containers, for all sites.
func upstreamDefaults(t *text) {
	modules := upstreamModules(t.build)
	t.comment("Only what was not sent, or may be sent twice, goes to another container. A container's")
	t.comment("certificate is its own: it is asked for the site's name, and verified only where a route says so.")
	for _, k := range modules {
		t.preset(k+"_connect_timeout", "3s")
		t.preset(k+"_next_upstream", "error", "timeout")
		t.preset(k+"_next_upstream_tries", "3")
		t.preset(k+"_next_upstream_timeout", "10s")
		// The header of a response has to fit: one with a few cookies and a policy has 20 kB.
		// What may be busy follows, so that a file of the operator's may say one size alone.
		t.preset(k+"_buffer_size", "32k")
		if k != "grpc" {
			t.preset(k+"_buffers", "8", "16k")
			most := "64m"
			if t.settings.Spaces.Temp.Low {
				most = "0"
			}
			t.preset(k+"_max_temp_file_size", most)
		}
		if k == "proxy" || k == "grpc" {
			t.preset(k+"_ssl_server_name", "on")
			t.preset(k+"_ssl_name", "$host")
			t.preset(k+"_ssl_verify", "off")
			t.preset(k+"_ssl_protocols", "TLSv1.2", "TLSv1.3")
		}
	}
	t.preset("proxy_http_version", "1.1")
	t.preset("proxy_headers_hash_bucket_size", "128")
	for _, k := range modules {
		clientParameters(t, k, "", fastCGIRoot, keptConnection)
	}
	t.blank()
}

// upstreamModules are the modules that pass requests on to containers, of those that are used.
func upstreamModules(b Build) []string {
	modules := []string{"proxy", "fastcgi", "uwsgi"}
	if b.GRPC {
		modules = append(modules, "grpc")
	}
	return modules
}

// clientHeaders are the headers that a container gets about its client over every protocol.
// prefix is the path that was stripped.
func clientHeaders(prefix string) [][]string {
	return [][]string{
		{"Host", "$host$nagaya_port"},
		{"X-Real-IP", "$remote_addr"},
		{"X-Forwarded-For", "$nagaya_for"},
		{"X-Forwarded-Proto", "$nagaya_proto"},
		{"X-Forwarded-Scheme", "$nagaya_proto"},
		{"X-Forwarded-Ssl", "$nagaya_ssl"},
		{"X-Forwarded-Host", "$nagaya_host"},
		{"X-Forwarded-Port", "$nagaya_public_port"},
		{"X-Forwarded-Prefix", prefix},
		{"X-Original-URI", "$request_uri"},
		{"X-Original-URL", ""}, // some frameworks take the path from there, past a path's password
		{"X-Rewrite-URL", ""},
		{"Forwarded", "$nagaya_forwarded"},
		{"Proxy", ""},
	}
}

// keptConnection is the header Connection of requests on connections that are kept.
const keptConnection = "$nagaya_connection"

// clientParameters writes the headers or parameters that a container gets about its client.
// prefix is the path that was stripped, root where a FastCGI container keeps its documents,
// connection the header of HTTP/1.1.
// nginx inherits these lines only into a location that has none of its own, so such a
// location repeats them all.
func clientParameters(t *text, module, prefix, root, connection string) {
	switch module {
	case "fastcgi":
		t.list("fastcgi_param", fastCGI(root), cgiHeaders(prefix), [][]string{{"HTTPS", "$nagaya_https", "if_not_empty"}})
	case "uwsgi":
		t.list("uwsgi_param", uwsgi, cgiHeaders(prefix), [][]string{{"HTTPS", "$nagaya_https", "if_not_empty"}})
	case "grpc":
		t.list("grpc_set_header", clientHeaders(prefix))
	default:
		t.list("proxy_set_header", clientHeaders(prefix), [][]string{{"Upgrade", "$nagaya_upgrade"}, {"Connection", connection}})
	}
}

// parameterOf is the directive of a module that clientParameters writes.
func parameterOf(module string) string {
	if module == "proxy" || module == "grpc" {
		return module + "_set_header"
	}
	return module + "_param"
}

// fastCGIRoot is where the official php images keep their documents. Only PHP's
// process manager looks at it.
const fastCGIRoot = "/var/www/html"

// fastCGI are the parameters of a FastCGI request (nginx's fastcgi_params).
func fastCGI(root string) [][]string {
	return [][]string{
		{"QUERY_STRING", "$query_string"},
		{"REQUEST_METHOD", "$request_method"},
		{"CONTENT_TYPE", "$content_type"},
		{"CONTENT_LENGTH", "$content_length"},
		{"SCRIPT_FILENAME", root + "$fastcgi_script_name"},
		{"SCRIPT_NAME", "$fastcgi_script_name"},
		{"PATH_INFO", "$fastcgi_path_info"},
		{"REQUEST_URI", "$request_uri"},
		{"DOCUMENT_URI", "$document_uri"},
		{"DOCUMENT_ROOT", root},
		{"SERVER_PROTOCOL", "$server_protocol"},
		{"REQUEST_SCHEME", "$nagaya_proto"},
		{"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "nginx"},
		{"REMOTE_ADDR", "$remote_addr"},
		{"REMOTE_PORT", "$remote_port"},
		{"SERVER_ADDR", "$nagaya_server_addr"},
		{"SERVER_PORT", "$nagaya_server_port"},
		{"SERVER_NAME", "$host"},
		{"REDIRECT_STATUS", "200"},
	}
}

// uwsgi are the parameters of a uwsgi request (nginx's uwsgi_params).
var uwsgi = [][]string{
	{"QUERY_STRING", "$query_string"},
	{"REQUEST_METHOD", "$request_method"},
	{"CONTENT_TYPE", "$content_type"},
	{"CONTENT_LENGTH", "$content_length"},
	{"REQUEST_URI", "$request_uri"},
	{"PATH_INFO", "$document_uri"},
	{"SERVER_PROTOCOL", "$server_protocol"},
	{"REQUEST_SCHEME", "$nagaya_proto"},
	{"REMOTE_ADDR", "$remote_addr"},
	{"REMOTE_PORT", "$remote_port"},
	{"SERVER_PORT", "$nagaya_server_port"},
	{"SERVER_NAME", "$host"},
}

// cgiHeaders are the clientHeaders as variables of CGI.
func cgiHeaders(prefix string) [][]string {
	headers := clientHeaders(prefix)
	for i, h := range headers {
		headers[i][0] = "HTTP_" + strings.ToUpper(strings.ReplaceAll(h[0], "-", "_"))
	}
	return headers
}
