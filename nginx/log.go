package nginx

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
)

// clientSaid are the variables in which a line of the access log repeats a client. A line is to
// be of 4 KiB at most, so that nobody fills the disk with a few requests. plain is how many
// bytes are logged of a value that nginx writes as it is; other is how many are of one in which
// it escapes some, by up to six bytes each.
var clientSaid = []struct {
	name, variable string
	plain, other   int
}{
	{"request", "$request", 900, 150},
	{"referer", "$http_referer", 900, 150},
	{"user_agent", "$http_user_agent", 900, 150},
	{"user", "$remote_user", 240, 40},
	{"host", "$host", 240, 40},
	{"forwarded_for", "$http_x_forwarded_for", 240, 40},
}

// logVariables writes the bounded ones, $nagaya_log_request and so on. A missing value is what
// nginx logs in its place.
func logVariables(t *text) {
	if t.settings.AccessLog == "off" && !t.needs.uses[nginxproxy.LogName] {
		return
	}
	missing := "-"
	if t.settings.LogFormat == "json" || t.settings.LogFormat != "" && t.settings.LogEscape != "" && t.settings.LogEscape != "default" {
		missing = ""
	}
	t.comment("What clients say is cut in the log.")
	for _, v := range clientSaid {
		const plain = `[\x20\x21\x23-\x5b\x5d-\x7e]`
		cut := "${nagaya_cut}..."
		t.choose(v.variable, "log_"+v.name, v.variable, "", missing,
			fmt.Sprintf(`~^%s{0,%d}+$`, plain, v.plain), v.variable,
			fmt.Sprintf(`~^(?<nagaya_cut>%s{%d})`, plain, v.plain), cut,
			fmt.Sprintf(`~(?s)^(?<nagaya_cut>.{%d}[\x80-\xbf]{0,3}+).`, v.other), cut) // no character is cut
	}
}

// logName is the name of the format of our logs.
const logName = "nagaya"

// streamFormat is the line for a connection of the stream section.
const streamFormat = `$remote_addr [$time_local] $protocol $server_port $status $bytes_sent $bytes_received $session_time $upstream_addr`

// ownFormat is the setting's format, with its escape.
func ownFormat(s Settings) []string {
	switch s.LogFormat {
	case "":
		if s.NginxProxy {
			return []string{nginxproxy.LogFormat}
		}
		return []string{`$remote_addr - $nagaya_log_user [$time_local] $nagaya_log_host "$nagaya_log_request" $status $body_bytes_sent ` +
			`"$nagaya_log_referer" "$nagaya_log_user_agent" $request_time $upstream_addr $upstream_response_time $upstream_status`}
	case "json":
		return []string{"escape=json", jsonFormat()}
	}
	return []string{"escape=" + cmp.Or(s.LogEscape, "default"), s.LogFormat}
}

// vhostFormat writes the format of nginx-proxy, where files of the operator's use it and none
// defines it.
func vhostFormat(t *text) {
	if !t.needs.uses[nginxproxy.LogName] {
		return
	}
	format := []string{nginxproxy.LogFormat}
	if t.settings.LogFormat != "" {
		format = ownFormat(t.settings)
	}
	t.preset("log_format", append([]string{nginxproxy.LogName}, format...)...)
}

// jsonFormat has the names that nginx-proxy gives the same values, and $host.
func jsonFormat() string {
	var b strings.Builder
	for _, f := range [][2]string{
		{"time_local", "$time_iso8601"},
		{"client_ip", "$nagaya_log_forwarded_for"},
		{"remote_addr", "$remote_addr"},
		{"host", "$nagaya_log_host"},
		{"request", "$nagaya_log_request"},
		{"status", "$status"},
		{"body_bytes_sent", "$body_bytes_sent"},
		{"request_time", "$request_time"},
		{"upstream_response_time", "$upstream_response_time"},
		{"upstream_addr", "$upstream_addr"},
		{"http_referrer", "$nagaya_log_referer"},
		{"http_user_agent", "$nagaya_log_user_agent"},
		{"request_id", "$request_id"},
		{"upstream_status", "$upstream_status"},
	} {
		fmt.Fprintf(&b, `,"%s":"%s"`, f[0], f[1])
	}
	return "{" + b.String()[1:] + "}"
}
