package objectstore

import (
	"flag"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

var (
	server    = flag.String("server", "", "host:port of an S3 server on the loopback interface to try, with the keys in -access-key and -secret-key")
	accessKey = flag.String("access-key", "", "the access key of -server")
	secretKey = flag.String("secret-key", "", "the secret key of -server")
)

// What the suite asks of an S3 server. A new one is tried with it before it is put into the lock: CONTRIBUTING.md, "Add a stack".
func TestAServerDoesWhatTheSuiteAsks(t *testing.T) {
	if *server == "" {
		t.Skip("no -server to try")
	}
	const bucket, there, prefix = "volsync-backups", "app/data/config", "app/data/"
	h, c := &Handle{Server: *server}, Credentials{AccessKey: *accessKey, SecretKey: *secretKey}
	for range 2 { // a kept stack's bucket is there already
		if err := h.UseBucket(t.Context(), c, bucket); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{there, "app/data/keys/1", "app/other/config", "beside"} {
		if err := h.Put(t.Context(), c, key, "content of "+key); err != nil {
			t.Fatal(err)
		}
	}
	s3, err := h.S3(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: bucket, Object: prefix + "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: there}); err != nil {
		t.Error(err)
	}
	list := func(prefix string, want ...string) {
		t.Helper()
		found, err := h.List(t.Context(), c, prefix)
		if err != nil || len(found) != len(want) {
			t.Errorf("%s holds %v, want %v (%v)", prefix, found, want, err)
		}
		for _, key := range want {
			if found[key] == "" {
				t.Errorf("%s holds %v, want %s among it", prefix, found, key)
			}
		}
	}
	list(prefix, there, prefix+"keys/1", prefix+"copy")
	list("no/such/")

	root := "http://" + *server + "/"
	for name, a := range map[string]struct {
		method, url, body string
		status            int
		want              string
	}{
		"an object":             {"GET", bucket + "/" + there, "", 200, "content of " + there},
		"its head":              {"HEAD", bucket + "/" + there, "", 200, ""},
		"no such object":        {"GET", bucket + "/app/none/config", "", 404, "<Code>NoSuchKey</Code>"},
		"no such head":          {"HEAD", bucket + "/app/none/config", "", 404, ""},
		"a folder is no object": {"GET", bucket + "/app/data", "", 404, "<Code>NoSuchKey</Code>"},
		"below an object":       {"GET", bucket + "/" + there + "/config", "", 404, "<Code>NoSuchKey</Code>"},
		"a listing":             {"GET", bucket + "?list-type=2&prefix=" + prefix, "", 200, "<Key>" + there + "</Key>"},
		"an empty listing":      {"GET", bucket + "?list-type=2&prefix=no/such/", "", 200, "<KeyCount>0</KeyCount>"},
		"one key of a listing":  {"GET", bucket + "?list-type=2&max-keys=1&prefix=" + prefix, "", 200, "<IsTruncated>true</IsTruncated>"},
		"a write":               {"PUT", bucket + "/" + prefix + "forbidden", "x", 403, "<Code>AccessDenied</Code>"},
		"a removal":             {"DELETE", bucket + "/" + there, "", 403, "<Code>AccessDenied</Code>"},
	} {
		status, body := anonymously(t, a.method, root+a.url, a.body, "")
		if status != a.status || !strings.Contains(body, a.want) {
			t.Errorf("%s, asked for by nobody: %s %s is answered %d %q, want %d and %q in it", name, a.method, a.url, status, body, a.status, a.want)
		}
	}
	// What policies/clusterpolicy needs: a header that is nobody's. Kyverno sends its own token otherwise.
	asNobody := map[string]int{}
	for _, value := range []string{" ", "Bearer none"} {
		asNobody[value], _ = anonymously(t, "GET", root+bucket+"/"+there, "", value)
	}
	t.Logf("with an Authorization header that is empty, or of a bearer: %v", asNobody)

	if err := h.RemovePrefix(t.Context(), c, prefix); err != nil {
		t.Error(err)
	}
	list(prefix)
	list("app/", "app/other/config")
	if status, body := anonymously(t, "GET", root+bucket+"/"+there, "", ""); status != 404 {
		t.Errorf("an object that was removed is answered %d %q, want 404", status, body)
	}
}

// anonymously asks without credentials, or with this value for them.
func anonymously(t *testing.T, method, url, body, authorization string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}
