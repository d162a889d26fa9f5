package nginxproxy

import (
	"cmp"
	"regexp"
	"strings"
)

// What nginx's files say in nginx-proxy's words, in those of the operator and in nagaya's.

const (
	// DebugPath is the path at which a site tells how it is set.
	DebugPath = "/nginx-proxy-debug"
	// LogName is the name of the format of logs, and LogFormat the line with nagaya's variables.
	LogName   = "vhost"
	LogFormat = `$nagaya_log_host $remote_addr - $nagaya_log_user [$time_local] "$nagaya_log_request" $status $body_bytes_sent ` +
		`"$nagaya_log_referer" "$nagaya_log_user_agent" "$upstream_addr"`
)

// TemplateVariables are those of the template, each with its value, mostly a variable of nagaya's.
var TemplateVariables = [][2]string{
	{"$proxy_x_forwarded_for", "$nagaya_for"},
	{"$proxy_x_forwarded_proto", "$nagaya_proto"},
	{"$proxy_x_forwarded_host", "$nagaya_host"},
	{"$proxy_x_forwarded_port", "$nagaya_public_port"},
	{"$_proxy_x_forwarded_port", "$nagaya_public_port"},
	{"$proxy_x_forwarded_ssl", "$nagaya_ssl"},
	{"$host_port", "$nagaya_port"},
	{"$proxy_connection", "$nagaya_connection"},
	{"$proxy_connection_noupgrade", ""},
	{"$upstream_keepalive", "true"},
}

// clientsWords are variables that repeat what clients say of themselves, and nagaya's, which do so for
// trusted proxies only.
var clientsWords = map[string]string{
	"proxy_add_x_forwarded_for": "nagaya_for", "http_x_forwarded_for": "nagaya_for", "http_x_forwarded_proto": "nagaya_proto",
	"http_x_forwarded_host": "nagaya_host", "http_x_forwarded_port": "nagaya_public_port", "http_x_forwarded_ssl": "nagaya_ssl",
	"http_upgrade": "nagaya_upgrade",
}

// variable is one of nginx, whose name ends where no letter, digit or underscore follows.
var variable = regexp.MustCompile(`\$(?:\{[A-Za-z0-9_]+\}|[A-Za-z0-9_]+)`)

// WithoutClients returns the text of the file about how requests are passed on without what clients
// say of themselves: the file that nginx-proxy's documents show believes everybody.
func WithoutClients(text string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		name := strings.Trim(v, "${}")
		ours := clientsWords[strings.ToLower(name)] // nginx does not tell capitals from small letters
		return strings.Replace(v, name, cmp.Or(ours, name), 1)
	})
}
