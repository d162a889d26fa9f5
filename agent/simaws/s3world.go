package simaws

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"time"
)

// BucketSpec describes a bucket of S3.
type BucketSpec struct {
	Name string `json:"name"`
	// Region is where it is; default the world's. The endpoint serves buckets of all Regions and
	// sends a request that is signed for another one away.
	Region string `json:"region,omitempty"`
	// KMSKey encrypts what is put without another wish; empty is S3's own key. A caller needs
	// kms:GenerateDataKey and kms:Decrypt for what a KMS key encrypts.
	KMSKey string `json:"kms_key,omitempty"`
	// DemandKMS is a bucket policy that denies a PutObject that does not ask for aws:kms.
	DemandKMS bool `json:"demand_kms,omitempty"`
	// PageSize is how many keys a page of a list has at most; default and maximum 1,000.
	PageSize int `json:"page_size,omitempty"`
}

type storeBucket struct {
	spec    BucketSpec
	objects map[string]*storeObject
}

type storeObject struct {
	body     []byte
	etag     string
	kmsKey   string
	modified time.Time
	sums     map[string]string
}

// newObject gives a body an ETag: its MD5, or with a KMS key something that is none (S3 API reference, "Object").
func (w *World) newObject(body []byte, kmsKey string) *storeObject {
	o := &storeObject{body: bytes.Clone(body), kmsKey: kmsKey, modified: w.Now()}
	sum := md5.Sum(body)
	if o.etag = hex.EncodeToString(sum[:]); kmsKey != "" {
		o.etag = w.hex(32)
	}
	return o
}

// header is what the answers about an object have in common.
func (o *storeObject) header() map[string]string {
	h := map[string]string{"Etag": `"` + o.etag + `"`, "X-Amz-Server-Side-Encryption": "AES256"}
	if o.kmsKey != "" {
		h["X-Amz-Server-Side-Encryption"], h["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] = "aws:kms", o.kmsKey
	}
	return h
}

// AddBucket makes a bucket.
func (w *World) AddBucket(s BucketSpec) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s.Name == "":
		return fmt.Errorf("bucket: no name")
	case w.buckets[s.Name] != nil:
		return fmt.Errorf("bucket %q exists", s.Name)
	case s.PageSize < 0 || s.PageSize > mostKeys:
		return fmt.Errorf("bucket %q: page size %d is not within 1 and %d", s.Name, s.PageSize, mostKeys)
	case s.PageSize == 0:
		s.PageSize = mostKeys
	}
	setDefault(&s.Region, w.region)
	w.buckets[s.Name] = &storeBucket{s, map[string]*storeObject{}}
	return nil
}

// SetObject puts an object into a bucket past all rules; a nil body removes it.
func (w *World) SetObject(bucket, key string, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.buckets[bucket]
	if b == nil {
		return &NotFoundError{"bucket", bucket}
	}
	if body == nil {
		delete(b.objects, key)
		return nil
	}
	b.objects[key] = w.newObject(body, b.spec.KMSKey)
	return nil
}

// Objects returns the bodies of a bucket's objects by their keys; nil where there is no such bucket.
func (w *World) Objects(bucket string) map[string][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.buckets[bucket]
	if b == nil {
		return nil
	}
	all := map[string][]byte{}
	for k, o := range b.objects {
		all[k] = bytes.Clone(o.body)
	}
	return all
}

// ObjectKey is the KMS key that encrypts an object; empty for S3's own and for one that is not there.
func (w *World) ObjectKey(bucket, key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.buckets[bucket]; b != nil && b.objects[key] != nil {
		return b.objects[key].kmsKey
	}
	return ""
}
