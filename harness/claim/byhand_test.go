package claim

import "testing"

func TestChanged(t *testing.T) {
	object := func() map[string]any {
		return map[string]any{"spec": map[string]any{
			"paused":  true,
			"trigger": map[string]any{"schedule": "0 * * * *"},
			"restic":  map[string]any{"unlock": "by-hand", "cacheCapacity": "2Gi", "moverSecurityContext": map[string]any{"runAsUser": int64(0)}, "copyMethod": "Direct"},
		}}
	}
	spec := func(o map[string]any) map[string]any { return o["spec"].(map[string]any) }
	for name, c := range map[string]struct {
		change func(spec map[string]any)
		want   string
	}{
		"as set":       {func(map[string]any) {}, ""},
		"goes on":      {func(s map[string]any) { delete(s, "paused") }, "[spec paused] is <nil>, and was set to true"},
		"made anew":    {func(s map[string]any) { s["restic"] = map[string]any{"copyMethod": "Direct"} }, "[spec restic cacheCapacity] is <nil>, and was set to 2Gi"},
		"another user": {func(s map[string]any) { s["restic"].(map[string]any)["moverSecurityContext"] = map[string]any{} }, "[spec restic moverSecurityContext runAsUser] is <nil>, and was set to 0"},
	} {
		o := object()
		c.change(spec(o))
		if got := changed(setByHand, o, "spec"); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}
