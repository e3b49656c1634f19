package mutants

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser"
)

// change is an expression with one thing in it changed.
type change struct {
	operator      Operator
	offset        int    // of what was changed in the text, in code points
	before, after string // of what was changed
	text          string // the whole, changed
}

// cel reads CEL as it is written: without macros, so that exists and has stay the calls that they look like.
var cel = func() *parser.Parser {
	p, err := parser.NewParser(parser.EnableOptionalSyntax(true), parser.EnableIdentEscapeSyntax(true))
	if err != nil {
		panic(err) // options that the library itself has
	}
	return p
}()

// celMutants are all changes of an expression. Of a condition the whole is a condition, too.
func celMutants(text string, condition bool) ([]change, error) {
	source := common.NewTextSource(text)
	tree, errs := cel.Parse(source)
	if len(errs.GetErrors()) > 0 {
		return nil, fmt.Errorf("it is no CEL: %s", errs.ToDisplayString())
	}
	c := &celMutator{root: tree.Expr(), info: tree.SourceInfo(), make: ast.NewExprFactory(), compared: map[int64]comparison{}}
	c.visit(c.root, condition)
	return c.changes, c.err
}

type celMutator struct {
	root    ast.Expr
	info    *ast.SourceInfo
	make    ast.ExprFactory
	changes []change
	err     error
	// compared says what a value with a default is compared with, and how, by the value's node.
	compared map[int64]comparison
}

// comparison is one of a value with another.
type comparison struct {
	function string
	with     ast.Expr
}

func (c *celMutator) unparse(e ast.Expr) string {
	text, err := parser.Unparse(e, c.info, parser.WrapOnColumn(1<<20))
	if err != nil && c.err == nil {
		c.err = err
	}
	return text
}

// replace notes the expression with a node replaced.
func (c *celMutator) replace(operator Operator, node, by ast.Expr) {
	saved := c.make.NewUnspecifiedExpr(node.ID())
	saved.SetKindCase(node) // with the same nodes below it
	one := change{operator: operator, offset: c.start(node), before: c.unparse(saved), after: c.unparse(by)}
	replacement := c.make.CopyExpr(by)
	node.SetKindCase(replacement)
	one.text = c.unparse(c.root)
	node.SetKindCase(saved)
	if one.before != one.after {
		c.changes = append(c.changes, one)
	}
}

// start is where a node begins: that of an operator or a call is where it stands, which is behind its first operand.
func (c *celMutator) start(node ast.Expr) int {
	offset, known := c.info.GetOffsetRange(node.ID())
	start := int(offset.Start)
	if !known {
		start = 1 << 30
	}
	var first ast.Expr
	switch node.Kind() {
	case ast.CallKind:
		if call := node.AsCall(); call.IsMemberFunction() {
			first = call.Target()
		} else if len(call.Args()) > 0 {
			first = call.Args()[0]
		}
	case ast.SelectKind:
		first = node.AsSelect().Operand()
	}
	if first != nil {
		start = min(start, c.start(first))
	}
	return start
}

func (c *celMutator) call(function string, args ...ast.Expr) ast.Expr {
	return c.make.NewCall(0, function, args...)
}

func (c *celMutator) text(s string) ast.Expr { return c.make.NewLiteral(0, types.String(s)) }

// opposites are comparisons and what is true where they are not.
var opposites = map[string]string{
	operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
	operators.Less: operators.GreaterEquals, operators.GreaterEquals: operators.Less,
	operators.Greater: operators.LessEquals, operators.LessEquals: operators.Greater,
}

// bounds are comparisons and the same with, or without, what is equal.
var bounds = map[string]string{
	operators.Less: operators.LessEquals, operators.LessEquals: operators.Less,
	operators.Greater: operators.GreaterEquals, operators.GreaterEquals: operators.Greater,
}

// visit changes a node, and all below it. A condition is what is true or false.
func (c *celMutator) visit(node ast.Expr, condition bool) {
	if condition {
		c.condition(node)
	}
	switch node.Kind() {
	case ast.CallKind:
		c.visitCall(node)
	case ast.SelectKind:
		c.visitSelect(node)
	case ast.IdentKind:
		if other, swapped := swappedIdents[node.AsIdent()]; swapped {
			c.replace(Names, node, c.make.NewIdent(0, other))
		}
	case ast.LiteralKind:
		c.visitLiteral(node)
	case ast.ListKind:
		c.visitList(node)
	case ast.MapKind, ast.StructKind:
		c.visitEntries(node)
	}
}

// condition negates what visitCall does not.
func (c *celMutator) condition(node ast.Expr) {
	if node.Kind() == ast.CallKind {
		switch function := node.AsCall().FunctionName(); function {
		case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional:
			return
		default:
			if opposites[function] != "" {
				return
			}
		}
	}
	if node.Kind() == ast.LiteralKind {
		return
	}
	c.replace(Negate, node, c.call(operators.LogicalNot, c.make.CopyExpr(node)))
}

func (c *celMutator) visitCall(node ast.Expr) {
	call := node.AsCall()
	function, args := call.FunctionName(), call.Args()
	if other := opposites[function]; other != "" {
		c.replace(Negate, node, c.call(other, args...))
	}
	if other := bounds[function]; other != "" && !slices.ContainsFunc(args, isMoment) { // no two moments are the same
		c.replace(Bound, node, c.call(other, args...))
	}
	c.compares(call)
	switch function {
	case operators.LogicalAnd, operators.LogicalOr:
		c.chain(DropCondition, node, true)
		return
	case operators.Add:
		c.chain(Part, node, false)
		return
	case operators.LogicalNot:
		c.replace(Negate, node, args[0])
		c.visit(args[0], args[0].Kind() == ast.CallKind && args[0].AsCall().FunctionName() == operators.In)
		return
	case operators.Conditional:
		c.replace(Branch, node, args[1])
		c.replace(Branch, node, args[2])
		c.visit(args[0], true)
		c.visit(args[1], false)
		c.visit(args[2], false)
		return
	case operators.OptSelect:
		c.visit(args[0], false)
		return
	case "orValue":
		c.orValue(node)
		c.replace(Required, node, c.required(call.Target()))
		c.visit(call.Target(), false)
		return
	case "exists", "all", "filter", "map", "exists_one":
		c.comprehension(node)
		return
	case "duration":
		if text, is := literal(args[0]); is {
			c.replace(Duration, args[0], c.text(longer(text)))
			c.replace(Duration, args[0], c.text("0s"))
		}
		return
	case "matches": // a pattern is no text to swap names in, and its numbers are text
		c.visit(call.Target(), false)
		return
	}
	if call.IsMemberFunction() {
		c.visit(call.Target(), false)
	}
	for _, arg := range args {
		c.visit(arg, false)
	}
}

// chain leaves out each operand of a && b && c once.
func (c *celMutator) chain(operator Operator, node ast.Expr, conditions bool) {
	function := node.AsCall().FunctionName()
	operands := flat(node, function)
	for i, left := range operands {
		var rest ast.Expr
		for j, operand := range operands {
			switch {
			case j == i:
			case rest == nil:
				rest = operand
			default:
				rest = c.call(function, rest, operand)
			}
		}
		before := len(c.changes)
		c.replace(operator, node, rest)
		c.gone(before, left, c.unparse(left))
	}
	for _, operand := range operands {
		c.visit(operand, conditions)
	}
}

func flat(node ast.Expr, function string) (operands []ast.Expr) {
	if node.Kind() != ast.CallKind || node.AsCall().FunctionName() != function {
		return []ast.Expr{node}
	}
	for _, arg := range node.AsCall().Args() {
		operands = append(operands, flat(arg, function)...)
	}
	return operands
}

// compares notes what values with a default are compared with.
func (c *celMutator) compares(call ast.CallExpr) {
	function, args := call.FunctionName(), call.Args()
	note := func(value, with ast.Expr) {
		if hasDefault(value) && !hasDefault(with) {
			c.compared[value.ID()] = comparison{function, with}
		}
	}
	switch {
	case opposites[function] != "":
		note(args[0], args[1])
		note(args[1], args[0])
	case function == operators.In && args[1].Kind() == ast.ListKind && args[1].AsList().Size() > 0:
		note(args[0], args[1].AsList().Elements()[0])
	case call.IsMemberFunction() && (function == "contains" || function == "startsWith" || function == "endsWith"):
		note(call.Target(), args[0])
	}
}

func hasDefault(node ast.Expr) bool {
	return node.Kind() == ast.CallKind && node.AsCall().FunctionName() == "orValue"
}

// isMoment says whether a value is a time, or how long something takes.
func isMoment(node ast.Expr) bool {
	if node.Kind() != ast.CallKind {
		return false
	}
	switch call := node.AsCall(); call.FunctionName() {
	case "timestamp", "duration", "now":
		return true
	case operators.Add, operators.Subtract:
		return slices.ContainsFunc(call.Args(), isMoment)
	}
	return false
}

// orValue is about defaults. One that is compared becomes what it is compared with: what is missing counts as that.
func (c *celMutator) orValue(node ast.Expr) {
	value := node.AsCall().Args()[0]
	if value.Kind() != ast.LiteralKind {
		c.visit(value, false)
		return
	}
	is, compared := c.compared[node.ID()]
	switch v := value.AsLiteral().(type) {
	case types.String:
		other := c.text("another")
		switch {
		case compared:
			if text, literally := literal(is.with); !literally || text != string(v) {
				other = c.make.CopyExpr(is.with)
			}
		case v != "":
			other = c.text("")
		}
		c.replace(Default, value, other)
	case types.Bool:
		c.replace(Default, value, c.make.NewLiteral(0, !v))
	case types.Int:
		for _, other := range []types.Int{v + 1, v - 1} {
			if other >= 0 && (!compared || is.differs(v, other)) {
				c.replace(Default, value, c.make.NewLiteral(0, other))
			}
		}
	}
}

// required is a value that must be there: what is selected of it, too.
func (c *celMutator) required(node ast.Expr) ast.Expr {
	switch node.Kind() {
	case ast.SelectKind:
		if s := node.AsSelect(); !s.IsTestOnly() {
			return c.make.NewSelect(0, c.required(s.Operand()), s.FieldName())
		}
	case ast.CallKind:
		switch call := node.AsCall(); call.FunctionName() {
		case operators.OptSelect:
			return c.make.NewSelect(0, c.required(call.Args()[0]), string(call.Args()[1].AsLiteral().(types.String)))
		case operators.OptIndex, operators.Index:
			return c.call(operators.Index, c.required(call.Args()[0]), call.Args()[1])
		}
	}
	return node
}

// differs says whether a comparison comes to something else with another number, as far as that can be told.
func (is comparison) differs(one, other types.Int) bool {
	if is.with.Kind() != ast.LiteralKind {
		return true
	}
	with, number := is.with.AsLiteral().(types.Int)
	if !number {
		return true
	}
	than := func(n types.Int) bool {
		switch is.function {
		case operators.Less, operators.GreaterEquals:
			return n < with
		case operators.Greater, operators.LessEquals:
			return n > with
		}
		return n == with
	}
	return than(one) != than(other)
}

// comprehension is about exists, all, filter and map.
func (c *celMutator) comprehension(node ast.Expr) {
	call := node.AsCall()
	if !call.IsMemberFunction() || len(call.Args()) < 2 {
		return
	}
	switch call.FunctionName() {
	case "exists":
		c.replace(Quantifier, node, c.make.NewMemberCall(0, "all", call.Target(), call.Args()...))
	case "all":
		c.replace(Quantifier, node, c.make.NewMemberCall(0, "exists", call.Target(), call.Args()...))
	case "filter":
		c.replace(Filter, node, call.Target())
	}
	c.visit(call.Target(), false)
	for _, arg := range call.Args()[1:] {
		c.visit(arg, call.FunctionName() != "map")
	}
}

// Names that somebody may take for each other.
var (
	swappedIdents = map[string]string{"object": "oldObject", "oldObject": "object"}
	swappedFields = map[string]string{"sourcePVC": "destinationPVC", "destinationPVC": "sourcePVC"}
	swappedTexts  = []string{
		"replicationsources", "replicationdestinations", "ReplicationSource", "ReplicationDestination",
		"sourcePVC", "destinationPVC", "volsync-src-", "volsync-dst-",
	}
)

func (c *celMutator) visitSelect(node ast.Expr) {
	s := node.AsSelect()
	if other, swapped := swappedFields[s.FieldName()]; swapped {
		c.replace(Names, node, c.make.NewSelect(0, s.Operand(), other))
	}
	if of := s.Operand(); of.Kind() == ast.SelectKind && of.AsSelect().FieldName() == "metadata" {
		switch s.FieldName() {
		case "name":
			c.replace(Names, node, c.make.NewSelect(0, of, "namespace"))
		case "namespace":
			c.replace(Names, node, c.make.NewSelect(0, of, "name"))
		}
	}
	c.visit(s.Operand(), false)
}

// schedules are texts like 0 * * * *.
var schedules = regexp.MustCompile(`^([0-9*/,-]+) ([0-9*/,-]+) [0-9*/,-]+ [0-9*/,-]+ [0-9*/,-]+$`)

func (c *celMutator) visitLiteral(node ast.Expr) {
	switch v := node.AsLiteral().(type) {
	case types.Int:
		c.replace(Number, node, c.make.NewLiteral(0, v+1))
		if v > 0 {
			c.replace(Number, node, c.make.NewLiteral(0, v-1))
		}
	case types.Bool:
		c.replace(Switch, node, c.make.NewLiteral(0, !v))
	case types.String:
		if other, operator := otherText(string(v)); other != "" {
			c.replace(operator, node, c.text(other))
		}
	}
}

// otherText is what a text may be mistaken for, if it is one of those.
func otherText(text string) (string, Operator) {
	for i := 0; i < len(swappedTexts); i += 2 {
		switch text {
		case swappedTexts[i]:
			return swappedTexts[i+1], Names
		case swappedTexts[i+1]:
			return swappedTexts[i], Names
		}
	}
	switch {
	case schedules.MatchString(text):
		return otherSchedule(text), Schedule
	case text == "Direct":
		return "Snapshot", Schedule
	case text == "Snapshot":
		return "Direct", Schedule
	}
	return "", ""
}

// otherSchedule is half an hour away from a schedule.
func otherSchedule(text string) string {
	_, rest, _ := strings.Cut(text, " ")
	if strings.HasPrefix(text, "30 ") {
		return "0 " + rest
	}
	return "30 " + rest
}

// longer is ten times a duration like 60s.
func longer(text string) string {
	unit := strings.TrimLeft(text, "0123456789")
	return strings.TrimSuffix(text, unit) + "0" + unit
}

func literal(node ast.Expr) (string, bool) {
	if node.Kind() != ast.LiteralKind {
		return "", false
	}
	text, is := node.AsLiteral().(types.String)
	return string(text), is
}

func (c *celMutator) visitList(node ast.Expr) {
	items := node.AsList().Elements()
	for i, item := range items {
		var rest []ast.Expr
		rest = append(append(rest, items[:i]...), items[i+1:]...)
		before := len(c.changes)
		c.replace(Entry, node, c.make.NewList(0, rest, nil))
		c.gone(before, item, c.unparse(item))
		c.visit(item, false)
	}
}

// gone says of the last change that it is without something.
func (c *celMutator) gone(before int, node ast.Expr, text string) {
	if len(c.changes) > before {
		one := &c.changes[len(c.changes)-1]
		one.offset, one.before, one.after = c.start(node), text, ""
	}
}

// visitEntries leaves out each entry of a map or of an object.
func (c *celMutator) visitEntries(node ast.Expr) {
	var entries []ast.EntryExpr
	if node.Kind() == ast.MapKind {
		entries = node.AsMap().Entries()
	} else {
		entries = node.AsStruct().Fields()
	}
	with := func(entries []ast.EntryExpr) ast.Expr {
		if node.Kind() == ast.MapKind {
			return c.make.NewMap(0, entries)
		}
		return c.make.NewStruct(0, node.AsStruct().TypeName(), entries)
	}
	for i, entry := range entries {
		name, value := entryOf(entry)
		var rest []ast.EntryExpr
		rest = append(append(rest, entries[:i]...), entries[i+1:]...)
		before := len(c.changes)
		c.replace(Entry, node, with(rest))
		c.gone(before, value, c.unparse(with([]ast.EntryExpr{entry})))
		if name == "destinationPVC" && node.Kind() == ast.MapKind {
			before := len(c.changes)
			previous := c.make.NewMapEntry(0, c.text("previous"), c.call("dyn", c.make.NewLiteral(0, types.Int(1))), false)
			c.replace(Previous, node, with(append(append(rest[:0:0], entries...), previous)))
			if len(c.changes) > before {
				one := &c.changes[len(c.changes)-1]
				one.offset, one.before, one.after = c.start(value), "", `"previous": dyn(1)`
			}
		}
		if node.Kind() == ast.MapKind {
			c.visit(entry.AsMapEntry().Key(), false)
		}
		c.visit(value, false)
	}
}

func entryOf(entry ast.EntryExpr) (name string, value ast.Expr) {
	if entry.Kind() == ast.StructFieldKind {
		field := entry.AsStructField()
		return field.Name(), field.Value()
	}
	one := entry.AsMapEntry()
	name, _ = literal(one.Key())
	return name, one.Value()
}
