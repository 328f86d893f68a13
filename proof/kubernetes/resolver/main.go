package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

type in struct{ Method, Target string }

func main() {
	f := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	s := bufio.NewScanner(os.Stdin)
	s.Buffer(make([]byte, 1<<20), 1<<20)
	out := json.NewEncoder(os.Stdout)
	for s.Scan() {
		var i in
		if json.Unmarshal(s.Bytes(), &i) != nil {
			panic("input")
		}
		r, err := http.NewRequest(i.Method, "http://h"+i.Target, nil)
		if err != nil {
			out.Encode(map[string]any{"method": i.Method, "target": i.Target, "error": err.Error()})
			continue
		}
		n, err := f.NewRequestInfo(r)
		e := ""
		if err != nil {
			e = err.Error()
		}
		out.Encode(map[string]any{"method": i.Method, "target": i.Target, "error": e, "resource_request": n.IsResourceRequest,
			"verb": n.Verb, "group": n.APIGroup, "version": n.APIVersion, "namespace": n.Namespace, "resource": n.Resource,
			"subresource": n.Subresource, "name": n.Name})
	}
}
