package timing

import (
	"reflect"
	"testing"
	"time"
)

func TestEverySetupTimeIsSet(t *testing.T) {
	v := reflect.ValueOf(Setup)
	for i := range v.NumField() {
		if v.Field(i).Int() <= 0 {
			t.Errorf("%s is not set", v.Type().Field(i).Name)
		}
	}
}

func TestScaleSetup(t *testing.T) {
	defer ScaleSetup(1)
	one := Setup
	for range 2 { // once is as good as twice
		ScaleSetup(3)
	}
	if Setup.Policy != 3*one.Policy || Setup.Poll != one.Poll {
		t.Errorf("%v and %v, want three times %v, and %v", Setup.Policy, Setup.Poll, one.Policy, one.Poll)
	}
	all := All(Default())
	if all["Setup.Policy"] != (3*one.Policy).Seconds() || all["Generate"] != time.Minute.Seconds() {
		t.Errorf("the report says %v", all)
	}
	ScaleSetup(1)
	if Setup != one {
		t.Errorf("not as before: %+v", Setup)
	}
}
