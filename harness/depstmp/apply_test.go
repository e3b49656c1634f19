package depstmp
import ("context";"testing";"fmt";"os"
 "github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stand"
)
func TestApply(t *testing.T){
	dir, _ := cache.Open()
	sd:=&stand.Stand{}
	run,err:=runs.Kept(dir.Path("runs",""),sd); if err!=nil||run==nil{t.Fatal(run,err)}
	sd.Log=progress.New(os.Stdout)
	e,_:=settings.ParseEndpoint("http://192.168.10.133:9000")
	p,err:=policy.Load(os.Getenv("POLICY"),e); if err!=nil{t.Fatal(err)}
	fmt.Println(sd.ApplyPolicy(context.Background(),p))
	run.Keep(sd)
}
