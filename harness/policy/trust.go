package policy

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/strict"
)

// Who trusts the CA of an https endpoint.
const (
	TrustImages = "images"
	TrustPolicy = "policy"
)

// caPlaceholder stands for the certificate of the run's CA.
const caPlaceholder = "ca"

const braced = "{" + caPlaceholder + "}"

// Filled is Data with the certificate of the run's CA in it.
func (s BaseSecret) Filled(ca string) map[string]string {
	filled := map[string]string{}
	for key, value := range s.Data {
		filled[key] = strings.ReplaceAll(value, braced, ca)
	}
	return filled
}

// checkTrust refuses what nobody could trust the endpoint by: its CA is new for every run.
func (p *Policy) checkTrust() error {
	c := p.Contract
	brings := c.SecretStore.says(braced)
	for _, key := range slices.Sorted(maps.Keys(c.BaseSecret.Data)) {
		value := c.BaseSecret.Data[key]
		brings = brings || strings.Contains(value, braced)
		if text, is := certificateIn(value); is && p.Endpoint.HTTPS() {
			return c.doc.At(foreignCA(text), "baseSecret", "data", strict.Key(key))
		}
	}
	switch {
	case !p.Endpoint.HTTPS() && c.S3.Trust == TrustPolicy:
		return c.doc.At(fmt.Sprintf("the endpoint %s is http: there is no certificate to trust", p.Endpoint.URL), "s3", "trust")
	case !p.Endpoint.HTTPS():
		return nil
	case c.S3.Trust == TrustPolicy && !brings:
		return c.doc.At(fmt.Sprintf("nobody would trust %s: write %s in a value of baseSecret.data or secretStore, from where the policy takes the CA's certificate, or leave trust out", p.Endpoint.URL, braced), "s3", "trust")
	}
	for _, object := range p.Objects {
		if text, is := certificateIn(object.Object); is {
			return fmt.Errorf("%s %s: %s", object.GetKind(), object.GetName(), foreignCA(text))
		}
	}
	if p.Templates != nil {
		for _, object := range p.Templates.Objects {
			if text, is := certificateIn(object); is {
				return fmt.Errorf("templates: %s", foreignCA(text))
			}
		}
	}
	return nil
}

// foreignCA says what is wrong with a certificate that is written down.
func foreignCA(text string) string {
	if err := authority.ReadCA(text); err != nil {
		return fmt.Sprintf("it has a CA that cannot be read: %v; the run's CA is new every time: write %s in baseSecret.data, and take it from there", err, braced)
	}
	return fmt.Sprintf("it has the certificate of a CA of its own, and the run's CA is new every time: write %s in baseSecret.data, and take it from there", braced)
}

const pemHead = "-----BEGIN CERTIFICATE" // a policy may have public keys, by which it verifies images

var encoded = regexp.MustCompile(`LS0tLS1CRUdJTiBDRVJUSUZJQ0FU[A-Za-z0-9+/=]*`) // pemHead in base64

// certificateIn is the first certificate, or what was meant for one, in a text or in a field of a value, however deep.
func certificateIn(value any) (text string, is bool) {
	switch value := value.(type) {
	case string:
		text = value
		if found := encoded.FindString(value); found != "" {
			if raw, err := base64.StdEncoding.DecodeString(found); err == nil {
				text = string(raw)
			} else {
				return found, true
			}
		}
		if at := strings.Index(text, pemHead); at >= 0 {
			return text[at:], true
		}
		return "", false
	case []any:
		for _, item := range value {
			if text, is := certificateIn(item); is {
				return text, true
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			found := value[key]
			if text, is := found.(string); is && key == "caBundle" && text != "" && !strings.ContainsAny(text, "{$") {
				if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
					text = string(raw)
				}
				return text, true
			}
			if text, is := certificateIn(found); is {
				return text, true
			}
		}
	}
	return "", false
}
