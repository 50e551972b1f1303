// What controllers in Go do with client-go and controller-runtime, against a control plane: every step checks what came of it.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	namespace = "go-tour"
	protobuf  = "application/vnd.kubernetes.protobuf"
	patience  = 30 * time.Second
)

func main() {
	ctrl.SetLogger(logr.Discard())
	if err := tour(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func tour(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 500, 500
	// Nothing else is understood by this one.
	binary := rest.CopyConfig(config)
	binary.ContentType, binary.AcceptContentTypes = protobuf, protobuf
	clients, err := kubernetes.NewForConfig(binary)
	if err != nil {
		return err
	}
	made, err := clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.UID == "" || made.Status.Phase != corev1.NamespaceActive {
		return fmt.Errorf("a namespace came back as %v", made)
	}
	defer clients.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	steps := []struct {
		name string
		run  func(context.Context, *rest.Config, *kubernetes.Clientset) error
	}{
		{"informers", follow}, {"metadata", followMetadata}, {"pages", pages}, {"apply", apply}, {"conflicts", conflicts},
		{"dynamic", dynamically}, {"leaders", lead}, {"controller-runtime", reconcile},
	}
	for _, step := range steps {
		within, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err := step.run(within, config, clients)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("  %s: ok\n", step.name)
	}
	return nil
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: data}
}

// Waits for a state.
func eventually(ctx context.Context, state func() bool) error {
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(context.Context) (bool, error) { return state(), nil })
}

// Shared informers in protobuf: what is there, what comes, what changes, what goes.
func follow(ctx context.Context, _ *rest.Config, clients *kubernetes.Clientset) error {
	maps := clients.CoreV1().ConfigMaps(namespace)
	for i := range 20 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("m-%02d", i), map[string]string{"i": fmt.Sprint(i)}), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps()
	var added, updated, deleted atomic.Int32
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		UpdateFunc: func(_, _ any) { updated.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer stop()
	factory.Start(running.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return fmt.Errorf("it never synced")
	}
	patch := []byte(`{"data":{"more":"yes"}}`)
	if _, err := maps.Patch(ctx, "m-07", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "m-08", metav1.DeleteOptions{}); err != nil {
		return err
	}
	err = eventually(ctx, func() bool { return updated.Load() >= 1 && deleted.Load() == 1 })
	found, listed := informer.Lister().ConfigMaps(namespace).Get("m-07")
	if err != nil || listed != nil || found.Data["more"] != "yes" {
		return fmt.Errorf("%w, %w: %v", err, listed, found)
	}
	return nil
}

// What garbage collectors and the like follow: metadata alone.
func followMetadata(ctx context.Context, config *rest.Config, clients *kubernetes.Clientset) error {
	client, err := metadata.NewForConfig(metadata.ConfigFor(config))
	if err != nil {
		return err
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	factory := metadatainformer.NewFilteredSharedInformerFactory(client, 0, namespace, nil)
	informer := factory.ForResource(resource)
	running, stop := context.WithCancel(ctx)
	defer stop()
	factory.Start(running.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return fmt.Errorf("it never synced")
	}
	_, err = clients.CoreV1().ConfigMaps(namespace).Create(ctx, configMap("meta", nil), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return eventually(ctx, func() bool {
		_, err := informer.Lister().ByNamespace(namespace).Get("meta")
		return err == nil
	})
}

func pages(ctx context.Context, _ *rest.Config, clients *kubernetes.Clientset) error {
	list := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return clients.CoreV1().ConfigMaps(namespace).List(ctx, options)
	}))
	list.PageSize = 4
	seen := 0
	err := list.EachListItem(ctx, metav1.ListOptions{}, func(runtime.Object) error { seen++; return nil })
	if err != nil || seen < 20 {
		return fmt.Errorf("%w: %d were seen", err, seen)
	}
	field := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "m-03").String()}
	one, err := clients.CoreV1().ConfigMaps(namespace).List(ctx, field)
	if err != nil || len(one.Items) != 1 {
		return fmt.Errorf("%w: %v", err, one)
	}
	return nil
}

func apply(ctx context.Context, _ *rest.Config, clients *kubernetes.Clientset) error {
	maps := clients.CoreV1().ConfigMaps(namespace)
	as := func(manager, value string, force bool) error {
		_, err := maps.Apply(ctx, applycore.ConfigMap("applied", namespace).WithData(map[string]string{"k": value}),
			metav1.ApplyOptions{FieldManager: manager, Force: force})
		return err
	}
	if err := as("one", "1", false); err != nil {
		return err
	}
	if err := as("two", "2", false); !apierrors.IsConflict(err) {
		return fmt.Errorf("a conflict is %v", err)
	}
	if err := as("two", "2", true); err != nil {
		return err
	}
	applied, err := maps.Get(ctx, "applied", metav1.GetOptions{})
	if err != nil {
		return err
	}
	own, err := applycore.ExtractConfigMap(applied, "two")
	if err != nil || own.Data["k"] != "2" {
		return fmt.Errorf("%w: %v", err, own)
	}
	return nil
}

// Many write one object, as client-go tells them to.
func conflicts(ctx context.Context, _ *rest.Config, clients *kubernetes.Clientset) error {
	maps := clients.CoreV1().ConfigMaps(namespace)
	var all sync.WaitGroup
	errs := make(chan error, 8)
	patient := wait.Backoff{Steps: 100, Duration: 5 * time.Millisecond, Factor: 1.2, Jitter: 1, Cap: time.Second}
	for i := range 8 {
		all.Go(func() {
			errs <- retry.RetryOnConflict(patient, func() error {
				object, err := maps.Get(ctx, "m-00", metav1.GetOptions{})
				if err != nil {
					return err
				}
				object.Data[fmt.Sprintf("w%d", i)] = "yes"
				_, err = maps.Update(ctx, object, metav1.UpdateOptions{})
				return err
			})
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	object, err := maps.Get(ctx, "m-00", metav1.GetOptions{})
	if err != nil || len(object.Data) != 9 {
		return fmt.Errorf("%w: %v", err, object.Data)
	}
	return nil
}

func dynamically(ctx context.Context, config *rest.Config, _ *kubernetes.Clientset) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	deployments := client.Resource(appsv1.SchemeGroupVersion.WithResource("deployments")).Namespace(namespace)
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "d"},
		"spec": map[string]any{
			"replicas": int64(1), "selector": map[string]any{"matchLabels": map[string]any{"app": "d"}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": "d"}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "example.org/c"}}},
			},
		},
	}}
	if _, err := deployments.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	err = eventually(ctx, func() bool {
		found, err := deployments.Get(ctx, "d", metav1.GetOptions{})
		if err != nil {
			return false
		}
		observed, _, _ := unstructured.NestedInt64(found.Object, "status", "observedGeneration")
		return observed == 1
	})
	if err != nil {
		return err
	}
	return deployments.Delete(ctx, "d", metav1.DeleteOptions{})
}

// Two candidates: one leads, and the other follows when it gives up.
func lead(ctx context.Context, _ *rest.Config, clients *kubernetes.Clientset) error {
	var led sync.Map
	run := func(ctx context.Context, who string) {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
				Client:     clients.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: who},
			},
			ReleaseOnCancel: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 500 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { led.Store(who, true) }, OnStoppedLeading: func() {}},
		})
	}
	is := func(who string) func() bool { return func() bool { _, ok := led.Load(who); return ok } }
	first, end := context.WithCancel(ctx)
	defer end()
	go run(first, "first")
	if err := eventually(ctx, is("first")); err != nil {
		return err
	}
	second, stop := context.WithCancel(ctx)
	defer stop()
	go run(second, "second")
	end()
	return eventually(ctx, is("second"))
}

// A controller on controller-runtime, whose cache speaks protobuf: it makes a secret for each config map of a label.
func reconcile(ctx context.Context, config *rest.Config, clients *kubernetes.Clientset) error {
	binary := rest.CopyConfig(config)
	binary.ContentType, binary.AcceptContentTypes = protobuf, protobuf
	manager, err := ctrl.NewManager(binary, ctrl.Options{Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Owns(&corev1.Secret{}).Complete(&copier{manager.GetClient()})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	defer func() { stop(); <-ended }()
	source := configMap("copied", map[string]string{"k": "v"})
	source.Labels = map[string]string{"copy": "yes"}
	if _, err := clients.CoreV1().ConfigMaps(namespace).Create(ctx, source, metav1.CreateOptions{}); err != nil {
		return err
	}
	secrets := clients.CoreV1().Secrets(namespace)
	copied := func() bool {
		secret, err := secrets.Get(ctx, "copied", metav1.GetOptions{})
		return err == nil && string(secret.Data["k"]) == "v"
	}
	if err := eventually(ctx, copied); err != nil {
		return err
	}
	// What it owns comes back.
	if err := secrets.Delete(ctx, "copied", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := eventually(ctx, copied); err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	if err := clients.CoreV1().ConfigMaps(namespace).Delete(ctx, "copied", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return err
	}
	return eventually(ctx, func() bool {
		_, err := secrets.Get(ctx, "copied", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

type copier struct{ client.Client }

func (c *copier) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var source corev1.ConfigMap
	if err := c.Get(ctx, request.NamespacedName, &source); err != nil || source.Labels["copy"] == "" || source.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: source.Name, Namespace: source.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, c.Client, secret, func() error {
		secret.StringData = source.Data
		return controllerutil.SetControllerReference(&source, secret, c.Scheme())
	})
	return ctrl.Result{}, err
}
