package nginx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

func TestParseDirectives(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []Directive
		err        string
	}{
		{"nothing", " \r\n\t# only ; a { comment", nil, ""},
		{"words", "a b  c;d;", []Directive{{Name: "a", Args: []string{"b", "c"}}, {Name: "d"}}, ""},
		{"a comment in the middle", "a # b;\n c;", []Directive{{Name: "a", Args: []string{"c"}}}, ""},
		{"no comment inside a word", "a b#c;", []Directive{{Name: "a", Args: []string{"b#c"}}}, ""},
		{"quotes", `a "b ; {" 'c " #d' "";`, []Directive{{Name: "a", Args: []string{"b ; {", `c " #d`, ""}}}, ""},
		{"escapes", `a "q\"\\\n\t" \$x\;y 'i\'m' \d;`, []Directive{{Name: "a", Args: []string{"q\"\\\n\t", `\$x\;y`, "i'm", `\d`}}}, ""},
		{"variables", `a ${b}c "${d}" $e${f} x{`, nil, "ends inside"},
		{"variables in a block", "a ${b}c{ d; }", []Directive{{Name: "a", Args: []string{"${b}c"}, Block: []Directive{{Name: "d"}}}}, ""},
		{"a quote inside a word", `a b"c d'e;`, []Directive{{Name: "a", Args: []string{`b"c`, `d'e`}}}, ""},
		{"a parenthesis behind a quote", `if ($a = "b") { c; }`, []Directive{{Name: "if", Args: []string{"($a", "=", "b", ")"}, Block: []Directive{{Name: "c"}}}}, ""},
		{"blocks", "a { b { c; } } d {}", []Directive{{Name: "a", Block: []Directive{{Name: "b", Block: []Directive{{Name: "c"}}}}}, {Name: "d"}}, ""},
		{"lua", "content_by_lua_block { local s = '}' --[[ } ]] -- }\n x = { [==[ } ]] ]==] , \"\\\"}\" } } a;", []Directive{{Name: "content_by_lua_block"}, {Name: "a"}}, ""},
		{"text behind a quote", `a "b"c;`, nil, `line 1: unexpected 'c' behind a quote`},
		{"an open quote", "a;\nb \"c;\n", nil, "line 2: the text ends inside a word"},
		{"an open block", "a {\nb;", nil, "line 2: the text ends inside a directive or block"},
		{"an open directive", "a b", nil, "the text ends inside a word"},
		{"a block too much", "a; }", nil, `unexpected '}'`},
		{"no name", "a; ;", nil, `unexpected ';'`},
		{"no semicolon", "a { b }", nil, `unexpected '}'`},
		{"an open block of Lua", "x_by_lua_block { if a then", nil, "inside a block of Lua"},
		{"very deep", strings.Repeat("a {", 100), nil, "more than 50"},
	} {
		got, err := ParseDirectives(row.text)
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: error %v, want %q", row.name, err, row.err)
		}
		for i := range got {
			clean(&got[i])
		}
		if diff := cmp.Diff(row.want, got); diff != "" && row.err == "" {
			t.Errorf("%s:\n%s", row.name, diff)
		}
	}
}

// clean makes empty lists nil, so that they can be compared.
func clean(d *Directive) {
	if len(d.Args) == 0 {
		d.Args = nil
	}
	if len(d.Block) == 0 {
		d.Block = nil
	}
	for i := range d.Block {
		clean(&d.Block[i])
	}
}

// nginx itself splits words in the same way: it writes what return is given, as it has read it.
func TestNginxReadsWordsTheSame(t *testing.T) { nginxtest.Each(t, testNginxReadsWordsTheSame) }

func testNginxReadsWordsTheSame(t *testing.T, n nginxtest.Nginx) {
	for _, word := range []string{`a`, `"a b"`, `'a"b'`, `a"b`, `a\"b`, `"a\\b"`, `a#b`, `"a;b"`, `"a{b"`, `${a}b`, `"${a}"`, `a\;b`, `a\{b`, `$a{b`, `"a"b`, `'a`, `a}b`, `\`} {
		all, parsed := ParseDirectives("return 200 " + word + ";")
		parsedOne := parsed == nil && len(all) == 1 && len(all[0].Args) == 2
		dir := t.TempDir()
		main := filepath.Join(dir, "nginx.conf")
		text := "pid " + dir + "/pid; error_log stderr; events {} http { access_log off; map x $a { default 1; } server { listen unix:" + dir + "/s; location / { return 200 " + word + ";} } }"
		if err := os.WriteFile(main, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := accepts(t, n.Binary, dir, []File{{Path: MainFile, Text: text}})
		if (err == nil) != parsedOne {
			t.Errorf("%s: nginx says %v, read here %v, %v\n%s", word, err, all, parsed, out)
		}
	}
}

// Whatever the text: no panic, bounded depth, and what is read is a fixed point when it is
// written and read again.
func FuzzParseDirectives(f *testing.F) {
	for _, s := range []string{"a b;", "a { b ${c}; }", `a "b\"c" 'd';`, "x_by_lua_block { [[ ]] }", "a # b\n;", "if ($a = \"b\") { }", "a\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseDirectives(s)
		if err != nil {
			return
		}
		var x text
		var write func([]Directive)
		write = func(ds []Directive) {
			for _, d := range ds {
				if strings.HasSuffix(d.Name, "_by_lua_block") {
					d.Name = "lua"
				}
				words := append([]string{d.Name}, d.Args...)
				if len(d.Block) == 0 {
					x.set(quote(words[0]), words[1:]...)
				} else {
					x.block(quote(words[0]), words[1:], func() { write(d.Block) })
				}
			}
		}
		write(all)
		again, err := ParseDirectives(x.out.String())
		if err != nil {
			t.Fatalf("%q was read and written as %q: %v", s, x.out.String(), err)
		}
		x = text{}
		first := again
		write(again)
		second, err := ParseDirectives(x.out.String())
		if err != nil || !cmp.Equal(first, second) {
			t.Fatalf("%q is read as\n%v, then %v, %v", s, first, second, err)
		}
		words([]Snippet{{Says: all}})
		levelOf(Snippet{Says: all})
		ownDefaults(all)
		Snippet{Says: all, Text: s}.MayRestrict()
		Snippet{Text: s}.MayRestrict()
	})
}

func TestAddressOf(t *testing.T) {
	for listen, want := range map[string]string{
		"80": "*:80", "*:80": "*:80", "0.0.0.0:80": "*:80", "0.0.0.0": "*:80", "[::]:80": "[::]:80", "[::]": "[::]:80",
		"127.0.0.1:8080": "127.0.0.1:8080", "127.0.0.1": "127.0.0.1:80", "unix:/run/x.sock": "unix:/run/x.sock", "[FE80::1]:80": "[fe80::1]:80",
	} {
		if got := addressOf(listen); got != want {
			t.Errorf("%q: %q, want %q", listen, got, want)
		}
	}
}

// nginx-proxy's words exist where files use them and define none themselves.
func TestForeignWords(t *testing.T) {
	own := scene{build: debian122}.render(func(s *Settings) {
		s.Snippets = []Snippet{
			snippet("http.d/a.conf", "access_log /x vhost; proxy_set_header A ${proxy_x_forwarded_proto}x$host_port;"),
			snippet("http.d/b.conf", "log_format vhost mine; map $x $host_port { default 1; }"),
		}
	})
	for text, want := range map[string]int{"$proxy_x_forwarded_proto {": 1, "$host_port {": 0, "$proxy_connection {": 0, "log_format vhost": 0} {
		if got := strings.Count(own.Main, text); got != want {
			t.Errorf("%q is there %d times, want %d", text, got, want)
		}
	}
	for name, text := range map[string]string{"vhost.d/default": "access_log /x vhost;", "http.d/a.conf": "access_log /x vhost;"} {
		tree := scene{build: debian122}.render(func(s *Settings) { s.Snippets = []Snippet{snippet(name, text)} })
		if !strings.Contains(tree.Main, "log_format vhost ") {
			t.Errorf("%s: no format:\n%s", name, tree.Main)
		}
	}
}

func TestMayRestrict(t *testing.T) {
	for text, want := range map[string]bool{
		"gzip on;": false, "deny all;": true, "server { deny all; }": false, "map $a $deny { x deny; }": false,
		"location / { auth_basic x; }": true, "if ($bad) { return 403; }": true, "gzip on": false, "deny all": true, "# auth_basic off;\ngzip": true, "": false,
	} {
		if got := snippet("http.d/x.conf", text).MayRestrict(); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
