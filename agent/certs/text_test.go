package certs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	r := Report{On: true, Store: "s3://b/p", Entries: []Entry{
		{ID: "a.example.com.P256", Hosts: []string{"a.example.com"}, Names: []string{"a.example.com"}, Issuer: "Let's Encrypt E7", Directory: letsEncrypt, Source: "acme", KeyType: ECDSA, NotAfter: start.Add(63*day + time.Hour), Renewal: start.Add(33 * day), State: Valid},
		{Hosts: []string{"b.example.com", "c.example.com", "d.example.com"}, Names: []string{"*.example.com"}, Issuer: "own", Source: "file", File: "/c/f.crt", KeyType: RSA, NotAfter: start.Add(30 * time.Hour), State: Overdue},
		{Hosts: []string{"e.test\x1b[2J"}, Names: []string{"e.test", "f.test", "g.test"}, Source: "acme", State: Refused, Reason: "\"e.test\" cannot be ordered:\nit is a private name"},
		{Hosts: []string{}, Names: []string{"old.example.com"}, Source: "import", NotAfter: start, Renewal: start.Add(-day), State: Expired},
	}}
	want := `HOST                            NAMES             ISSUER            FROM                               KEY      LEFT  RENEWAL           STATE    WHY
a.example.com                   same              Let's Encrypt E7  acme acme-v02.api.letsencrypt.org  p256     63 d  2027-04-03 12:00  valid    -
b.example.com,c.example.com +1  *.example.com     own               file                               rsa2048  30 h  -                 overdue  -
e.test [2J                      e.test,f.test +1  -                 acme                               -        -     -                 refused  "e.test" cannot be ordered: it is a private name
-                               old.example.com   -                 import                             -        none  due               expired  -

the store (s3://b/p) has not been read yet
`
	if d := cmp.Diff(want, r.Text(start)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("HOST  NAMES  ISSUER  FROM  KEY  LEFT  RENEWAL  STATE  WHY\n\nnothing is ordered: certs.acme.email is not set\n", Report{}.Text(start)); d != "" {
		t.Error(d)
	}
}
