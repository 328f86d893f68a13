// A kubelet's streaming side alone, with the kubelet's own library: what an API server needs to serve exec, attach,
// port-forward and logs of pods. Commands run here; a pod's port is the same port of this machine. Beside it an
// aggregated API, shown.example/v1, with one kind of thing.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	streaming "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

type here struct{}

func (here) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, err io.WriteCloser,
	tty bool, _ <-chan streaming.TerminalSize, _ time.Duration) error {
	if tty {
		cmd = []string{"script", "-qefc", quoted(cmd), "/dev/null"}
	}
	c := exec.CommandContext(ctx, cmd[0], cmd[1:]...)
	c.Stdout, c.Stderr = out, err
	if err == nil {
		c.Stderr = out
	}
	if in != nil {
		// Not c.Stdin: Run would wait for the end of what is typed, which nobody types after the command's end.
		pipe, failed := c.StdinPipe()
		if failed != nil {
			return failed
		}
		go func() {
			defer pipe.Close()
			io.Copy(pipe, in)
		}()
	}
	failed := c.Run()
	if exited := new(exec.ExitError); errors.As(failed, &exited) {
		return utilexec.CodeExitError{Err: failed, Code: exited.ExitCode()}
	}
	return failed
}

// An attach has no process of a container here: what is typed is shown in capitals, until it is over.
func (here) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool,
	_ <-chan streaming.TerminalSize) error {
	fmt.Fprintln(out, "attached")
	if in == nil {
		return nil
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fmt.Fprintln(out, strings.ToUpper(lines.Text()))
	}
	return lines.Err()
}

func quoted(words []string) string {
	for i, word := range words {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

func (here) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	there, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer there.Close()
	go io.Copy(there, stream)
	_, err = io.Copy(stream, there)
	return err
}

func main() {
	idle, made := time.Hour, 30*time.Second
	http.HandleFunc("/exec/", func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		options, err := streaming.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		streaming.ServeExec(w, r, here{}, parts[2], "", parts[len(parts)-1], r.URL.Query()["command"], options, idle, made,
			streaming.SupportedStreamingProtocols)
	})
	http.HandleFunc("/attach/", func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		options, err := streaming.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		streaming.ServeAttach(w, r, here{}, parts[2], "", parts[len(parts)-1], options, idle, made,
			streaming.SupportedStreamingProtocols)
	})
	http.HandleFunc("/portForward/", func(w http.ResponseWriter, r *http.Request) {
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		portforward.ServePortForward(w, r, here{}, "pod", "", options, idle, made, portforward.SupportedProtocols)
	})
	http.HandleFunc("/containerLogs/", func(w http.ResponseWriter, r *http.Request) {
		out := bufio.NewWriter(w)
		for n := 1; r.Context().Err() == nil; n++ {
			fmt.Fprintf(out, "line %d\n", n)
			out.Flush()
			w.(http.Flusher).Flush()
			if r.URL.Query().Get("follow") != "true" && n == 3 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	answer := func(path, body string) {
		http.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, body)
		})
	}
	answer("/apis/shown.example/v1", `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"shown.example/v1",
"resources":[{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list","delete"]}]}`)
	answer("/apis/shown.example/v1/namespaces/shop/things", `{"kind":"ThingList","apiVersion":"shown.example/v1",
"metadata":{},"items":[{"kind":"Thing","apiVersion":"shown.example/v1","metadata":{"name":"one","namespace":"shop"}}]}`)
	fmt.Println(http.ListenAndServeTLS("127.0.0.1:"+os.Args[1], os.Args[2], os.Args[3], nil))
}
