package verdict

import "encoding/json"

// KindOutcome is evidence whose Data is a Decision.
const KindOutcome = "outcome"

// Outcome is what a policy came to about a PVC.
type Outcome string

// The outcomes.
const (
	// Restore: a ReplicationDestination was made for it.
	Restore Outcome = "restore"
	// None: none was, and it is backed up.
	None Outcome = "none"
	// LateRestore: a ReplicationDestination was made for it when S3 was back,
	// after the decision had to be taken.
	LateRestore Outcome = "late restore"
	// Blocked: the PVC was not admitted.
	Blocked Outcome = "blocked"
	// Failed: it was admitted, and nothing was made for it at all.
	Failed Outcome = "failed"
	// Unseen: what became of it was not seen.
	Unseen Outcome = "unseen"
)

// Decision is a row of the decision table: what the policy came to in one
// situation, as the API server's audit log has it.
type Decision struct {
	Situation string  `json:"situation"` // fresh, backup, or s3-down/… with a backup
	Wanted    Outcome `json:"wanted"`
	Outcome   Outcome `json:"outcome"`
	// AdmittedSeconds is how long it took to admit or refuse the PVC.
	AdmittedSeconds float64 `json:"admittedSeconds"`
	// RestoreSeconds is when the ReplicationDestination was made, after the PVC.
	RestoreSeconds float64 `json:"restoreSeconds,omitempty"`
	// BackedUp says that a ReplicationSource was made.
	BackedUp bool `json:"backedUp"`
	// Said is what the policy wrote on the PVC, or why it was refused.
	Said string `json:"said,omitempty"`
}

// Data is the decision as Evidence holds it.
func (d Decision) Data() map[string]any {
	text, err := json.Marshal(d)
	if err != nil { // strings and finite numbers always encode
		panic(err)
	}
	var data map[string]any
	_ = json.Unmarshal(text, &data)
	return data
}

// Decision is the decision that the evidence holds, if it does.
func (e Evidence) Decision() (Decision, bool) {
	if e.Kind != KindOutcome {
		return Decision{}, false
	}
	text, err := json.Marshal(e.Data)
	if err != nil {
		return Decision{}, false
	}
	var d Decision
	return d, json.Unmarshal(text, &d) == nil && d.Situation != "" && d.Outcome != ""
}
