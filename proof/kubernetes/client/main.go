// What client-go does, at the cluster of a kubeconfig: lists, watches, execs over SPDY and over WebSocket, forwards a port
// over both. Prints a line for each thing that came out right, and ends with 1 at the first that did not.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	must(err)
	set, err := kubernetes.NewForConfig(config)
	must(err)
	pods, err := set.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
	must(err)
	fmt.Println("pods", pods.Items[0].Name)
	secret, err := set.CoreV1().Secrets("shop").Get(ctx, "db", metav1.GetOptions{})
	must(err)
	fmt.Println("secret", string(secret.Data["password"]))
	watchThem(ctx, set)
	orders(ctx, config)
	for name, open := range map[string]func(*rest.Config, *url.URL) (remotecommand.Executor, error){
		"spdy": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(c, "POST", u)
		},
		"websocket": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(c, "GET", u.String())
		},
	} {
		run(ctx, name, config, set, open)
	}
	for name, open := range map[string]func(*rest.Config, *url.URL) (httpstream.Dialer, error){
		"spdy": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
			transport, upgrader, err := spdy.RoundTripperFor(c)
			return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), err
		},
		"websocket": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
			return portforward.NewSPDYOverWebsocketDialer(u, c)
		},
	} {
		forward(name, config, set, open)
	}
}

func watchThem(ctx context.Context, set *kubernetes.Clientset) {
	seen, err := set.CoreV1().Pods("shop").Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	must(err)
	event := <-seen.ResultChan()
	pod, right := event.Object.(*corev1.Pod)
	if !right {
		must(fmt.Errorf("watch %s: %v", event.Type, event.Object))
	}
	fmt.Println("watch", event.Type, pod.Name)
	seen.Stop()
}

func orders(ctx context.Context, config *rest.Config) {
	client, err := dynamic.NewForConfig(config)
	must(err)
	kind := schema.GroupVersionResource{Group: "shop.example", Version: "v1", Resource: "orders"}
	found, err := client.Resource(kind).Namespace("shop").List(ctx, metav1.ListOptions{})
	must(err)
	fmt.Println("orders", found.Items[0].GetName())
}

func run(ctx context.Context, name string, config *rest.Config, set *kubernetes.Clientset,
	open func(*rest.Config, *url.URL) (remotecommand.Executor, error)) {
	asked := set.CoreV1().RESTClient().Post().Resource("pods").Namespace("shop").Name("web-1").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"sh", "-c", "cat; echo oops >&2; exit 3"}, Stdin: true,
			Stdout: true, Stderr: true}, scheme.ParameterCodec)
	it, err := open(config, asked.URL())
	must(err)
	var out, oops bytes.Buffer
	err = it.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("over " + name), Stdout: &out,
		Stderr: &oops})
	var code exec.CodeExitError
	if !errors.As(err, &code) {
		must(fmt.Errorf("exec over %s: %v", name, err))
	}
	fmt.Println("exec", out.String(), strings.TrimSpace(oops.String()), code.Code)
}

func forward(name string, config *rest.Config, set *kubernetes.Clientset,
	open func(*rest.Config, *url.URL) (httpstream.Dialer, error)) {
	asked := set.CoreV1().RESTClient().Post().Resource("pods").Namespace("shop").Name("web-1").SubResource("portforward")
	dialer, err := open(config, asked.URL())
	must(err)
	stop, ready := make(chan struct{}), make(chan struct{})
	it, err := portforward.New(dialer, []string{":" + os.Args[2]}, stop, ready, io.Discard, os.Stderr)
	must(err)
	ended := make(chan error, 1)
	go func() { ended <- it.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		must(fmt.Errorf("forward over %s: %v", name, err))
	}
	ports, err := it.GetPorts()
	must(err)
	there, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	must(err)
	fmt.Fprintln(there, "over", name)
	line, err := bufio.NewReader(there).ReadString('\n')
	must(err)
	fmt.Print("forward ", line)
	there.Close()
	close(stop)
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
