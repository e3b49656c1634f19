package mutants

// Operator is one way in which a policy may be wrong: a slip of the hand, or a thing that somebody did not think of.
type Operator string

// The operators.
const (
	DropObject    Operator = "drop-object"
	DropRule      Operator = "drop-rule"
	DropCondition Operator = "drop-condition"
	Negate        Operator = "negate"
	Bound         Operator = "move-bound"
	Branch        Operator = "keep-branch"
	Quantifier    Operator = "exists-all"
	Filter        Operator = "drop-filter"
	Number        Operator = "number"
	Default       Operator = "default"
	Required      Operator = "drop-default"
	Entry         Operator = "drop-entry"
	Part          Operator = "drop-part"
	Names         Operator = "swap-names"
	Duration      Operator = "duration"
	Operations    Operator = "operations"
	Selector      Operator = "widen-selector"
	Failure       Operator = "failure-policy"
	Timeout       Operator = "timeout"
	Switch        Operator = "switch"
	Action        Operator = "action"
	Right         Operator = "drop-right"
	Schedule      Operator = "schedule"
	Previous      Operator = "previous"
)

// Operators says what each operator does to a policy.
var Operators = []struct {
	Name     Operator
	Sentence string
}{
	{DropObject, "An object of the policy is not applied."},
	{DropRule, "A rule, a match condition, a precondition, a validation, a mutation or a target is gone."},
	{DropCondition, "One operand of && or || is gone."},
	{Negate, "A condition is its opposite: == and !=, `!`, Equals and NotEquals."},
	{Bound, "A comparison includes its bound, or no longer does: < and <=."},
	{Branch, "A choice (`a ? b : c`) is always the one, or always the other."},
	{Quantifier, "exists becomes all, and all becomes exists."},
	{Filter, "A filter lets everything pass."},
	{Number, "A number is one more, or one less: a status code, a count of snapshots, a length."},
	{Default, "A value that is used where there is none (`orValue`, `||`, default) is another one: that which it is compared with."},
	{Required, "What has a default (`orValue`) has none: that it is missing is an error."},
	{Entry, "A field of an object that is made or patched is gone, or an item of a list: an owner reference, a trigger, a label."},
	{Part, "A part of a text or of a list that is put together (`a + b`) is gone."},
	{Names, "Two names are swapped: namespace and name, source and destination, object and oldObject."},
	{Duration, "A duration is ten times as long, or nothing."},
	{Operations, "A list of operations has one less, or CREATE or UPDATE more."},
	{Selector, "A selector of labels, or one of its expressions, is gone or asks for the key alone."},
	{Failure, "Fail becomes Ignore, Ignore becomes Fail, and so with Allow and Deny of what is not found."},
	{Timeout, "A webhook may take 30 s."},
	{Switch, "What is on is off, and what is off is on: synchronize, generateExisting, mutateExisting, paused."},
	{Action, "What is denied is only warned of."},
	{Right, "Kyverno lacks a right: a verb, a resource, or the label by which it gets a role."},
	{Schedule, "Backups run on another schedule, or of another copy method."},
	{Previous, "The snapshot before the latest one is restored."},
}
