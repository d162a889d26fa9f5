package nginxproxy

import "testing"

// A variable of the operator's is another one where its name only begins as that of a client's word.
func TestWithoutClients(t *testing.T) {
	for text, want := range map[string]string{
		"proxy_set_header Upgrade $http_upgrade;":              "proxy_set_header Upgrade $nagaya_upgrade;",
		"proxy_set_header X $http_upgrade_insecure_requests;":  "proxy_set_header X $http_upgrade_insecure_requests;",
		`"$http_x_forwarded_for, $remote_addr"`:                `"$nagaya_for, $remote_addr"`,
		`"${http_x_forwarded_proto}x$http_x_forwarded_protox"`: `"${nagaya_proto}x$http_x_forwarded_protox"`,
		"$HTTP_X_Forwarded_Port-$proxy_add_x_forwarded_for":    "$nagaya_public_port-$nagaya_for",
		"$http_x_forwarded_host$http_x_forwarded_ssl $ ${ ${}": "$nagaya_host$nagaya_ssl $ ${ ${}",
	} {
		if got := WithoutClients(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
