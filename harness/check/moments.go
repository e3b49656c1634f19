package check

import (
	"strings"

	"github.com/smart-restore/conformance/harness/check/play"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// moments are situations of what is so at one moment, and not at the next.
func (p plot) moments() []situation {
	repository, marker := "/"+p.S3.Bucket+"/"+p.S3.Prefix(namespace, claimName), "/"+p.S3.Bucket+"/"+p.S3.Marker
	long := strings.Repeat("a", 40)
	all := []situation{
		{
			name: "an app has got in beside a restore, writes for a day, and its pod is replaced", requirement: "safety/restore-beside-app", wanted: "no restore over what it wrote",
			play: p.scene(p.backup(), play.Step{CacheBehind: true}, create(p.claim(claimName)), wait(1000), play.Step{WebhooksGone: true}, create(withScratch(pod("early"))),
				play.Step{CacheCaughtUp: true}, play.Step{AdmissionOn: true}, play.Step{Movers: true}, wait(24*hourMillis), play.Step{Scan: true}, wait(afterMillis),
				play.Step{Delete: pod("early")}, create(pod("next")), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "two PVCs with long names come in one millisecond", requirement: "safety/isolation", wanted: "a restore each",
			play:   p.scene(p.backupOf(long+"-0"), p.backupOf(long+"-1"), create(p.claim(long+"-0")), create(p.claim(long+"-1")), wait(afterMillis)),
			verify: (*found).restoredEach,
		},
	}
	all = append(all, p.baseSecretFillsUp()...)
	if p.S3.Marker != "" {
		all = append(all, situation{
			name: "S3 gets its disk between two questions", requirement: "safety/bucket-forgets", wanted: "restored, or no backup",
			play: p.scene(p.backup(), play.Step{Outage: &play.Outage{Rules: []gateway.Rule{
				{ID: "no-disk", PathPrefix: repository, TTLSeconds: 1, Fault: gateway.Fault{Kind: "absent"}},
				{ID: "disk-comes", PathPrefix: marker, TTLSeconds: 1, Fault: gateway.Fault{Kind: "slow", DelayMillis: 1100}},
			}}}, create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoredOrHeld,
		})
	}
	return all
}

// baseSecretFillsUp are situations in which the base Secret gets its last value when the PVC is there.
func (p plot) baseSecretFillsUp() (all []situation) {
	in, keys := p.baseSecretNamespaces()[0], p.BaseSecret.Keys
	for _, late := range []struct {
		what, key string
		empty     bool
	}{
		{"no access key", keys.AccessKey, false},
		{"no secret key", keys.SecretKey, false},
		{"no restic password", keys.ResticPassword, false},
		{"an empty restic password", keys.ResticPassword, true},
	} {
		before := p.base(in)
		data := before["data"].(map[string]any)
		if delete(data, late.key); late.empty {
			data[late.key] = ""
		}
		all = append(all, situation{
			name: "the base Secret has " + late.what + " when the PVC comes", requirement: "resilience/base-secret-late", wanted: "the Secret as it is then",
			play: play.Situation{Objects: p.namespaces(), Steps: []play.Step{create(before), create(p.claim(claimName)), wait(afterMillis),
				{Update: p.base(in)}, wait(afterMillis), {Scan: true}, wait(afterMillis)}},
			verify: func(f *found) {
				f.hasSource(2*afterMillis + 1000)
				f.repositoryIs(p.endpoint)
			},
		})
	}
	return all
}

// restoredEach wants every PVC to be filled from a ReplicationDestination of its own.
func (f *found) restoredEach() {
	from := map[string]string{}
	for _, e := range f.sent("PersistentVolumeClaim") {
		pvc := object(e)
		of := populatedBy(pvc)
		if other, taken := from[of]; of != "" && taken && other != pvc.GetName() {
			f.wrong(f.subjects.asks(), "PVCs %s and %s are both filled from ReplicationDestination %s: one gets the other's data", other, pvc.GetName(), of)
		}
		from[of] = pvc.GetName()
	}
}
