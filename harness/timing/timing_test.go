package timing

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func TestEveryTimeIsSet(t *testing.T) {
	v := reflect.ValueOf(Default())
	for i := range v.NumField() {
		if v.Field(i).Int() <= 0 {
			t.Errorf("%s is not set", v.Type().Field(i).Name)
		}
	}
}

func TestScaledMultipliesBoundsAndWindowsOnly(t *testing.T) {
	one, two := Default(), Default().Scaled(2)
	if two.Generate != 2*one.Generate || two.Reaction != 2*one.Reaction {
		t.Errorf("got %v and %v, want twice %v and %v", two.Generate, two.Reaction, one.Generate, one.Reaction)
	}
	if two.Poll != one.Poll || two.Gap != one.Gap {
		t.Errorf("intervals are scaled: %v, %v", two.Poll, two.Gap)
	}
	if one.Scaled(0) != one || one.Scaled(1) != one {
		t.Error("a factor of 0 or 1 changes something")
	}
	if got := two.Seconds()["Generate"]; got != (2 * time.Minute).Seconds() {
		t.Errorf("the report says %v s", got)
	}
}

func TestCheckScale(t *testing.T) {
	for factor, ok := range map[float64]bool{1: true, 2.5: true, math.NaN(): false, 10: true, 0.5: false, 11: false, -1: false} {
		if err := CheckScale(factor); (err == nil) != ok {
			t.Errorf("%g: %v", factor, err)
		}
	}
}
