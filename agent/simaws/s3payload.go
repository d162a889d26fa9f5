package simaws

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
)

// checksums are those that an SDK sends, as headers or behind the body (S3 User Guide, "Checking
// object integrity").
var checksums = map[string]func() hash.Hash{
	"X-Amz-Checksum-Crc32":  func() hash.Hash { return crc32.NewIEEE() },
	"X-Amz-Checksum-Crc32c": func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"X-Amz-Checksum-Sha1":   sha1.New,
	"X-Amz-Checksum-Sha256": sha256.New,
}

// payload is the body of a PUT without its framing, and the checksums that came with it and hold.
func payload(h http.Header, body []byte) (plain []byte, sums map[string]string, fail *apiError) {
	trailer := http.Header{}
	switch sum := h.Get("X-Amz-Content-Sha256"); {
	case sum == "":
		return nil, nil, failed("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	case strings.HasPrefix(sum, "STREAMING-"):
		var ok bool
		if body, ok = unchunked(body, trailer); !ok || strconv.Itoa(len(body)) != h.Get("X-Amz-Decoded-Content-Length") {
			return nil, nil, failed("IncompleteBody", "The request body terminated unexpectedly")
		}
	case sum != "UNSIGNED-PAYLOAD":
		if is := sha256.Sum256(body); hex.EncodeToString(is[:]) != sum {
			return nil, nil, failed("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
	}
	if want := h.Get("Content-Md5"); want != "" {
		if is := md5.Sum(body); base64.StdEncoding.EncodeToString(is[:]) != want {
			return nil, nil, failed("BadDigest", "The Content-MD5 you specified did not match what we received.")
		}
	}
	sums = map[string]string{}
	for name, make := range checksums {
		want := h.Get(name) + trailer.Get(name)
		if want == "" {
			continue
		}
		is := make()
		is.Write(body)
		if sums[name] = base64.StdEncoding.EncodeToString(is.Sum(nil)); sums[name] != want {
			return nil, nil, failed("BadDigest", "The %s you specified did not match the calculated checksum.", name)
		}
	}
	if named := h.Get("X-Amz-Trailer"); named != "" && trailer.Get(named) == "" {
		return nil, nil, failed("MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	}
	return body, sums, nil
}

// unchunked takes the framing of aws-chunked off and reads what follows the body.
func unchunked(body []byte, trailer http.Header) (plain []byte, ok bool) {
	for {
		line, rest, found := bytes.Cut(body, []byte("\r\n"))
		size, _, _ := strings.Cut(string(line), ";") // a signature may follow
		n, err := strconv.ParseUint(size, 16, 31)
		if !found || err != nil || int(n) > len(rest) {
			return nil, false
		}
		if n == 0 {
			body = rest
			break
		}
		plain = append(plain, rest[:n]...)
		if body, found = bytes.CutPrefix(rest[n:], []byte("\r\n")); !found {
			return nil, false
		}
	}
	for line := range strings.SplitSeq(string(body), "\r\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			trailer.Set(name, strings.TrimSpace(value))
		}
	}
	return plain, true
}
