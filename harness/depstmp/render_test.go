package depstmp
import ("context";"testing";"fmt";"time"
 "github.com/smart-restore/conformance/fixtures"
 "github.com/smart-restore/conformance/harness/cache"
 "github.com/smart-restore/conformance/harness/gomod"
 "github.com/smart-restore/conformance/harness/install"
 "github.com/smart-restore/conformance/harness/stack")
func TestRender(t *testing.T){
 d,_:=cache.Open(); l,err:=stack.Load(fixtures.Files); if err!=nil{t.Fatal(err)}
 r:=&install.Renderer{Cache:d,Fixtures:fixtures.Files,Modules:&gomod.Builder{Cache:d,Fixtures:fixtures.Files}}
 for i:=range l.Manifests{ s:=time.Now(); o,err:=r.Render(context.Background(),l,&l.Manifests[i]); fmt.Println(l.Manifests[i].Name,len(o),err,time.Since(s)); k:=map[string]int{}; for _,x:=range o{k[x.GetKind()]++}; fmt.Println(k)}
}
