package observe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// kube is the little of the API that observers need. It does without the typed
// clientset, which would make every program that observes several times larger.
type kube struct {
	dynamic dynamic.Interface
	core    rest.Interface
}

// ClientConfig is the configuration of an observer's clients.
func ClientConfig(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.QPS = -1 // an observer that waits its turn sees less
	c.Timeout = 0
	c.UserAgent = "smart-restore-conformance/observe"
	c.WarningHandler = rest.NoWarnings{}
	return c
}

func newKube(config *rest.Config) (*kube, error) {
	c := ClientConfig(config)
	httpClient, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	return newKubeFor(c, httpClient)
}

func newKubeFor(c *rest.Config, httpClient *http.Client) (*kube, error) {
	dyn, err := dynamic.NewForConfigAndClient(c, httpClient)
	if err != nil {
		return nil, err
	}
	c = rest.CopyConfig(c)
	c.APIPath = "/api"
	c.GroupVersion = &schema.GroupVersion{Version: "v1"}
	c.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
	core, err := rest.RESTClientForConfigAndClient(c, httpClient)
	if err != nil {
		return nil, err
	}
	return &kube{dynamic: dyn, core: core}, nil
}

// logOptions are those of reading a container's log.
type logOptions struct {
	follow, previous bool
	since            time.Time // the API takes whole seconds of it
}

// log opens a container's log, each line with its time in front.
func (k *kube) log(ctx context.Context, namespace, pod, container string, o logOptions) (io.ReadCloser, error) {
	r := k.core.Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		Param("container", container).Param("timestamps", "true")
	if o.follow {
		r = r.Param("follow", "true")
	}
	if o.previous {
		r = r.Param("previous", "true")
	}
	if !o.since.IsZero() {
		r = r.Param("sinceTime", o.since.UTC().Format(time.RFC3339))
	}
	body, err := r.Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("log of %s/%s %s: %w", namespace, pod, container, err)
	}
	return body, nil
}
