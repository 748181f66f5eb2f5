//! The lab itself, on this machine: needs root and several minutes, so it runs only when asked for by
//! `MAILCLUSTER_LAB_TESTS=1`.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_lab::{Block, Lab, OciImage, Options, Source, VolumeSpec, Way};
use serde_json::{Value, json};

const IMAGE: &str = "localhost/lab-toolbox:1";

/// Waits until the condition holds, an error counting as "not yet".
fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    let mut last = Ok(false);
    while start.elapsed() < limit {
        last = condition();
        if matches!(last, Ok(true)) {
            println!("{what}: after {:.1} s", start.elapsed().as_secs_f32());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    match last {
        Err(error) => Err(error.context(format!("{what}: not within {} s", limit.as_secs()))),
        Ok(_) => bail!("{what}: not within {} s", limit.as_secs()),
    }
}

const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(180);

fn get(lab: &Lab, what: &[&str]) -> Result<Value> {
    let mut words = vec!["get", "-n", "t", "-o", "json"];
    words.extend(what);
    Ok(serde_json::from_str(&lab.kubectl(&words)?)?)
}

fn exec(lab: &Lab, pod: &str, words: &[&str]) -> Result<String> {
    let mut line = vec!["exec", "-n", "t", pod, "--", "/lab-toolbox"];
    line.extend(words);
    lab.kubectl(&line)
}

fn pod_spec(words: &[&str], node: Option<&str>) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "toolbox", "image": IMAGE, "imagePullPolicy": "Never", "args": words,
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}],
    });
    if let Some(node) = node {
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    }
    spec
}

fn apply(lab: &Lab, kind: (&str, &str), name: &str, rest: Value) -> Result<()> {
    let mut object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": name, "namespace": "t", "labels": {"app": name}}});
    for (field, value) in rest.as_object().context("not an object")? {
        object[field] = value.clone();
    }
    lab.apply(&object.to_string())
}

fn ready(lab: &Lab, pod: &str) -> Result<bool> {
    let pod = get(lab, &["pod", pod])?;
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

fn node_ready(lab: &Lab, node: &str) -> Result<bool> {
    Ok(lab.kubectl(&["get", "node", node])?.contains(" Ready "))
}

fn boot_id(lab: &Lab, node: &str) -> Result<String> {
    lab.kubectl(&["get", "node", node, "-o", "jsonpath={.status.nodeInfo.bootID}"])
}

/// Connects from this machine and reads what the toolbox says.
fn connect(address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_lab_and_its_faults() -> Result<()> {
    if std::env::var_os("MAILCLUSTER_LAB_TESTS").is_none() {
        println!(
            "left out a_lab_and_its_faults: MAILCLUSTER_LAB_TESTS is not set (it needs root and takes minutes)"
        );
        return Ok(());
    }
    let settings = kernel_settings();
    let lab = Lab::up(&Options { nodes: 2, api_servers: 2, ..Options::default() })?;
    let root = lab.paths().lab.clone();
    nodes_are_told_apart(&lab)?;
    deploy(&lab)?;
    network(&lab)?;
    policies(&lab)?;
    pods(&lab)?;
    power(&lab)?;
    partitions(&lab)?;
    api_servers(&lab)?;
    let state = std::fs::read_to_string(root.join("state.json"))?;
    drop(lab);
    nothing_is_left(&root)?;
    ensure!(kernel_settings() == settings, "this machine's kernel settings were changed");
    after_a_reboot(&root, &state)?;
    killed_in_the_middle(&root)
}

/// Leaves what a lab leaves when the machine is switched off: its state file. The next `up` gets along with it.
fn after_a_reboot(root: &Path, state: &str) -> Result<()> {
    let mut state: Value = serde_json::from_str(state)?;
    state["host_boot_id"] = json!("of another boot");
    std::fs::write(root.join("state.json"), state.to_string())?;
    ensure!(Lab::attach().is_err(), "a lab of another boot counts as up");
    Ok(())
}

fn lab_id(root: &Path) -> Result<String> {
    let state: Value = serde_json::from_slice(&std::fs::read(root.join("state.json"))?)?;
    Ok(state["id"].to_string())
}

/// What a kubelet would set for the whole machine.
fn kernel_settings() -> Vec<String> {
    let names = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
    let keys = ["kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"];
    let read = |name: &&str| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    names.iter().chain(&keys).map(read).collect()
}

/// Not a test but the program that [`killed_in_the_middle`] kills.
#[test]
fn victim() -> Result<()> {
    if std::env::var_os("MAILCLUSTER_LAB_VICTIM").is_some() {
        let _lab = Lab::up(&Options { nodes: 1, ..Options::default() })?;
        std::thread::sleep(LATER);
    }
    Ok(())
}

fn killed_in_the_middle(root: &Path) -> Result<()> {
    // Ctrl-C, as a terminal sends it, and SIGKILL.
    for (sign, signal) in [("log/etcd.log", "INT"), ("log/node1-kubelet.log", "KILL")] {
        let before = lab_id(root).unwrap_or_default();
        let mut victim = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", "victim", "--nocapture"])
            .env("MAILCLUSTER_LAB_VICTIM", "1")
            .stderr(std::process::Stdio::piped())
            .process_group(0)
            .spawn()?;
        // As when `tee` dies of the same Ctrl-C: nobody reads what the victim and its guard say.
        drop(victim.stderr.take());
        eventually(&format!("{sign} is there"), LATER, || {
            Ok(lab_id(root)? != before && root.join(sign).exists())
        })?;
        let group = format!("-{}", victim.id());
        let sent = std::process::Command::new("kill").args(["-s", signal, "--", &group]).status()?;
        ensure!(sent.success(), "kill -s {signal}");
        victim.wait()?;
        eventually("the guard has cleaned up", LATER, || nothing_is_left(root).map(|()| true))?;
    }
    Ok(())
}

fn nodes_are_told_apart(lab: &Lab) -> Result<()> {
    let state = lab.state()?;
    for node in &state.nodes {
        ensure!(boot_id(lab, &node.name)? == node.boot_id, "{} reports another boot id", node.name);
    }
    ensure!(state.nodes[0].boot_id != state.nodes[1].boot_id);
    ensure!(Lab::up(&Options::default()).is_err(), "a second lab over the first");
    Ok(())
}

fn deploy(lab: &Lab) -> Result<()> {
    let archive = lab.paths().lab.join("toolbox.tar");
    OciImage::new(IMAGE, &["/lab-toolbox"])
        .user("65532:65532")
        .file("/lab-toolbox", Source::File(env!("CARGO_BIN_EXE_lab-toolbox").into()), 0o755)
        .write(&archive)?;
    lab.load_image(&archive)?;
    lab.create_volumes(&[VolumeSpec::new("vol0", &["node1", "node2"], 64 << 20)])?;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    lab.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t", "labels": labels}})
            .to_string(),
    )?;
    // Pods are refused before the controller has made it.
    eventually("the namespace has its service account", LATER, || {
        Ok(get(lab, &["serviceaccount", "default"]).is_ok())
    })?;
    let mut server = pod_spec(&["serve", "8080"], Some("node2"));
    server["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    server["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    apply(lab, ("v1", "Pod"), "server", json!({"spec": server}))?;
    apply(lab, ("v1", "Pod"), "near", json!({"spec": pod_spec(&["sleep"], Some("node2"))}))?;
    apply(lab, ("v1", "Pod"), "far", json!({"spec": pod_spec(&["sleep"], Some("node1"))}))?;
    apply(
        lab,
        ("v1", "PersistentVolumeClaim"),
        "vol0",
        json!({"spec": {"storageClassName": "mail-local", "volumeName": "vol0",
        "accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "64Mi"}}}}),
    )?;
    let mut writer = pod_spec(&["sleep"], Some("node1"));
    writer["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    writer["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "vol0"}}]);
    apply(lab, ("v1", "Pod"), "writer", json!({"spec": writer}))?;
    let lb = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "server"},
        "ports": [{"port": 80, "targetPort": 8080}]});
    apply(lab, ("v1", "Service"), "lb", json!({"spec": lb}))?;
    for pod in ["server", "near", "far", "writer"] {
        eventually(&format!("{pod} is ready"), LATER, || ready(lab, pod))?;
    }
    Ok(())
}

fn lb_address(lab: &Lab) -> Result<String> {
    let service = get(lab, &["service", "lb"])?;
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().context("no address yet")?;
    Ok(format!("{ip}:80"))
}

fn server_address(lab: &Lab) -> Result<String> {
    let pod = get(lab, &["pod", "server"])?;
    Ok(format!("{}:8080", pod["status"]["podIP"].as_str().context("no address")?))
}

fn network(lab: &Lab) -> Result<()> {
    let seen = exec(lab, "far", &["cat", "/proc/sys/kernel/random/boot_id"])?;
    ensure!(seen.trim() == boot_id(lab, "node1")?, "a container sees the boot id {seen}");
    let ranges = lab.state()?.ranges;
    let plain = "GET / HTTP/1.0\\r\\n\\r\\n";
    eventually("a pod reaches the API by its Service", SOON, || {
        let answer = exec(lab, "far", &["connect", &format!("{}:443", ranges.api_service()), plain])?;
        Ok(answer.contains("HTTP request to an HTTPS server"))
    })?;
    for pod in ["near", "far"] {
        let answer = exec(lab, pod, &["connect", &server_address(lab)?])?;
        ensure!(answer.starts_with("server "), "{pod} got {answer:?}");
    }
    host_port(lab)?;
    // The client's address is kept: externalTrafficPolicy Local.
    eventually("the load balancer answers", SOON, || {
        Ok(connect(&lb_address(lab)?)? == format!("server {}\n", ranges.host()))
    })
}

/// In a namespace of its own: the standard *restricted* forbids host ports.
fn host_port(lab: &Lab) -> Result<()> {
    let mut spec = pod_spec(&["serve", "8080"], Some("node1"));
    spec["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 25}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hostport", "namespace": "default"}, "spec": spec});
    lab.apply(&pod.to_string())?;
    let address = format!("{}:25", lab.state()?.ranges.node(1));
    eventually("a host port answers", LATER, || Ok(connect(&address)?.starts_with("hostport ")))?;
    lab.kubectl(&["delete", "pod", "hostport"]).map(|_| ())
}

fn policies(lab: &Lab) -> Result<()> {
    let server = server_address(lab)?;
    let lb = lb_address(lab)?;
    let from = json!([{"podSelector": {"matchLabels": {"app": "far"}}}]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": [{"port": 8080}]}]});
    apply(lab, ("networking.k8s.io/v1", "NetworkPolicy"), "only-far", json!({"spec": spec}))?;
    eventually("a pod of the same node is kept out", SOON, || {
        Ok(exec(lab, "near", &["connect", &server]).is_err())
    })?;
    ensure!(connect(&lb).is_err(), "this machine still gets in");
    ensure!(exec(lab, "far", &["connect", &server])?.starts_with("server "));
    ensure!(ready(lab, "server")?, "the kubelet's probe is kept out");
    lab.kubectl(&["delete", "networkpolicy", "-n", "t", "only-far"])?;
    eventually("all get in again", SOON, || {
        Ok(exec(lab, "near", &["connect", &server]).is_ok() && connect(&lb).is_ok())
    })
}

fn pods(lab: &Lab) -> Result<()> {
    let state_of = |pid: &i32| -> Result<char> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        status.lines().find_map(|line| line.strip_prefix("State:\t")?.chars().next()).context("no state")
    };
    let pids = lab.pod_pids("t", "near")?;
    ensure!(!pids.is_empty());
    lab.pause_pod("t", "near")?;
    eventually("a paused pod stands still", SOON, || {
        Ok(pids.iter().all(|pid| state_of(pid).is_ok_and(|s| s == 'T')))
    })?;
    lab.resume_pod("t", "near")?;
    eventually("a resumed pod goes on", SOON, || {
        Ok(pids.iter().all(|pid| state_of(pid).is_ok_and(|s| s != 'T')))
    })?;
    lab.kill_pod("t", "near")?;
    eventually("a killed pod is started again", LATER, || {
        Ok(get(lab, &["pod", "near"])?["status"]["containerStatuses"][0]["restartCount"] == 1
            && ready(lab, "near")?)
    })
}

/// A request to a node's BMC, from a pod as the fence Job makes it.
fn redfish(lab: &Lab, node: &str, method: &str, path: &str, body: &str) -> Result<String> {
    use base64::Engine;
    let bmc = lab.bmc(node)?;
    let secret =
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", bmc.username, bmc.password));
    let length = body.len();
    let request = format!(
        "{method} /redfish/v1/Systems/{node}{path} HTTP/1.1\\r\\nHost: bmc\\r\\nAuthorization: Basic {secret}\\r\\nContent-Length: {length}\\r\\n\\r\\n{body}"
    );
    let address = bmc.endpoint.trim_start_matches("http://").to_owned();
    exec(lab, "near", &["connect", &address, &request])
}

fn power(lab: &Lab) -> Result<()> {
    exec(lab, "writer", &["append", "/data/log", "synced", "sync"])?;
    exec(lab, "writer", &["append", "/data/log", "unsynced"])?;
    ensure!(exec(lab, "writer", &["cat", "/data/log"])? == "synced\nunsynced\n");
    let before = boot_id(lab, "node1")?;
    ensure!(redfish(lab, "node1", "GET", "", "")?.contains("\"PowerState\":\"On\""));
    let answer =
        redfish(lab, "node1", "POST", "/Actions/ComputerSystem.Reset", r#"{"ResetType":"ForceOff"}"#)?;
    ensure!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    ensure!(redfish(lab, "node1", "GET", "", "")?.contains("\"PowerState\":\"Off\""));
    let left = std::fs::read_to_string(lab.volume_path("vol0").join("log"))?;
    ensure!(left == "synced\n", "after the power cut the volume has {left:?}");
    eventually("a node without power is NotReady", LATER, || Ok(!node_ready(lab, "node1")?))?;
    // The sibling takes the volume over.
    lab.kubectl(&["delete", "pod", "-n", "t", "writer", "far", "--force", "--grace-period=0"])?;
    let mut writer = pod_spec(&["sleep"], Some("node2"));
    writer["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    writer["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "vol0"}}]);
    apply(lab, ("v1", "Pod"), "writer", json!({"spec": writer}))?;
    eventually("the sibling has the volume", LATER, || ready(lab, "writer"))?;
    exec(lab, "writer", &["append", "/data/log", "sibling", "sync"])?;
    ensure!(exec(lab, "writer", &["cat", "/data/log"])? == "synced\nsibling\n");
    full_disk(lab)?;
    interrupted_cut(lab)?;
    lab.power_on("node1")?;
    eventually("a node switched on is Ready in a new boot", LATER, || {
        Ok(node_ready(lab, "node1")? && boot_id(lab, "node1")? != before)
    })?;
    apply(lab, ("v1", "Pod"), "far", json!({"spec": pod_spec(&["sleep"], Some("node1"))}))?;
    eventually("it runs pods again", LATER, || ready(lab, "far"))?;
    let seen = exec(lab, "far", &["cat", "/proc/sys/kernel/random/boot_id"])?;
    ensure!(seen.trim() == boot_id(lab, "node1")?, "a container of the new boot sees the boot id {seen}");
    Ok(())
}

/// Nothing can be written to a volume that is full, and it can when it is not any more.
fn full_disk(lab: &Lab) -> Result<()> {
    let long = "x".repeat(8192);
    let write = || exec(lab, "writer", &["append", "/data/more", &long, "sync"]);
    for _ in 0..2 {
        lab.fill_volume("vol0")?;
        let full = write();
        lab.unfill_volume("vol0")?;
        ensure!(
            full.is_err_and(|error| format!("{error:#}").contains("No space left")),
            "a full disk was written to"
        );
        write()?;
    }
    ensure!(lab.fill_volume("none").is_err(), "there is no such volume");
    Ok(())
}

/// A cut whose program was killed before it came to its end, and a start that got no further than the network.
fn interrupted_cut(lab: &Lab) -> Result<()> {
    let file = lab.paths().lab.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    state["nodes"][0]["power"] =
        json!({"Cutting": [{"volume": "vol0", "image": state["volumes"][0]["image"]}]});
    std::fs::write(&file, state.to_string())?;
    ensure!(
        redfish(lab, "node1", "GET", "", "")?.contains("\"PowerState\":\"On\""),
        "Off before the cut is done"
    );
    lab.power_off("node1")?;
    ensure!(redfish(lab, "node1", "GET", "", "")?.contains("\"PowerState\":\"Off\""));
    let namespace =
        format!("mcl-{}-node1", std::env::var("MAILCLUSTER_LAB").unwrap_or_else(|_| "lab".to_owned()));
    ensure!(std::process::Command::new("ip").args(["netns", "add", &namespace]).status()?.success());
    Ok(())
}

fn partitions(lab: &Lab) -> Result<()> {
    let (server, lb) = (server_address(lab)?, lb_address(lab)?);
    lab.partition_from("node1", "node2")?;
    ensure!(exec(lab, "far", &["connect", &server]).is_err(), "node1 reaches node2");
    lab.heal("node1")?;
    ensure!(exec(lab, "far", &["connect", &server]).is_ok(), "node1 doesn't reach node2 again");
    blocks(lab, &server)?;
    lab.partition_from("node2", "api")?;
    eventually("a node cut from the API is NotReady", LATER, || Ok(!node_ready(lab, "node2")?))?;
    ensure!(exec(lab, "far", &["connect", &server]).is_ok(), "its pods don't serve any more");
    lab.heal("node2")?;
    eventually("a healed node is Ready", LATER, || node_ready(lab, "node2"))?;
    eventually("the load balancer answers again", SOON, || Ok(connect(&lb).is_ok()))?;
    let pids = lab.pod_pids("t", "server")?;
    lab.partition("node2")?;
    ensure!(connect(&lb).is_err(), "a partitioned node answers");
    ensure!(pids.iter().all(|pid| Path::new(&format!("/proc/{pid}")).exists()), "its pods ended");
    lab.heal("node2")?;
    eventually("it answers again", SOON, || Ok(connect(&lb).is_ok()))
}

/// Traffic in one direction, and between some pods.
fn blocks(lab: &Lab, server: &str) -> Result<()> {
    let reaches = |pod: &str| exec(lab, pod, &["connect", server]).is_ok();
    for (node, way) in [("node2", Way::In), ("node2", Way::Out), ("node1", Way::In), ("node1", Way::Out)] {
        lab.block(node, Block::all(way))?;
        ensure!(connect_far(server).is_err(), "{node} {way:?}: node1 reaches node2");
        lab.heal(node)?;
        ensure!(connect_far(server).is_ok(), "{node} {way:?}: node1 doesn't reach node2 again");
    }
    let address = |pod: &str| -> Result<std::net::Ipv4Addr> {
        Ok(get(lab, &["pod", pod])?["status"]["podIP"].as_str().context("no address")?.parse()?)
    };
    let own = Some(address("server")?);
    lab.block("node2", Block { way: Way::Both, own, peers: vec![address("near")?] })?;
    ensure!(!reaches("near") && reaches("far"), "only the pod of the same node is to be kept out");
    lab.heal("node2")?;
    lab.block("node2", Block { way: Way::In, own, peers: vec![address("far")?] })?;
    ensure!(reaches("near") && !reaches("far"), "only the other node's pod is to be kept out");
    lab.heal("node2")?;
    ensure!(reaches("near") && reaches("far"), "all get in again");
    Ok(())
}

/// From node1's own network, as its pods do, and without an API in between.
fn connect_far(server: &str) -> Result<()> {
    let namespace =
        format!("mcl-{}-node1", std::env::var("MAILCLUSTER_LAB").unwrap_or_else(|_| "lab".to_owned()));
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(env!("CARGO_BIN_EXE_lab-toolbox"));
    let output = command.args(["connect", server]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn api_servers(lab: &Lab) -> Result<()> {
    for index in [1, 2] {
        lab.api_down(Some(index))?;
        lab.kubectl(&["get", "namespaces"]).context("with one of two API servers")?;
        lab.api_up(Some(index))?;
    }
    lab.api_down(None)?;
    ensure!(lab.kubectl(&["get", "namespaces"]).is_err(), "without an API server");
    ensure!(connect(&lb_address_from_state(lab)).is_ok(), "service goes on without the API");
    lab.api_up(None)?;
    eventually("the nodes are Ready", LATER, || Ok(node_ready(lab, "node1")? && node_ready(lab, "node2")?))?;
    let logs = [1, 2].map(|index| std::fs::read_to_string(lab.paths().audit_log(index)).unwrap_or_default());
    let audited =
        logs.iter().flat_map(|log| log.lines()).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let verbs =
        audited.filter(|event| event["user"]["username"] == "admin").map(|event| event["verb"].to_string());
    let verbs: std::collections::BTreeSet<String> = verbs.collect();
    ensure!(
        verbs.contains("\"patch\"") && verbs.contains("\"get\""),
        "the audit log has of admin: {verbs:?}"
    );
    Ok(())
}

fn lb_address_from_state(lab: &Lab) -> String {
    lab.state().map(|state| format!("{}:80", state.ranges.load_balancer(1))).unwrap_or_default()
}

fn nothing_is_left(root: &Path) -> Result<()> {
    let name = format!("mcl-{}", std::env::var("MAILCLUSTER_LAB").unwrap_or_else(|_| "lab".to_owned()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&root.display().to_string()), "a mount is left");
    let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    ensure!(
        !spaces.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")))
    );
    ensure!(!Path::new(&format!("/sys/class/net/{name}0")).exists(), "an interface is left");
    // Version 2 has the lab's group right here, version 1 in the folder of each controller.
    ensure!(!Path::new("/sys/fs/cgroup").join(&name).exists(), "a cgroup is left");
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
        ensure!(!hierarchy.path().join(&name).exists(), "a cgroup is left in {}", hierarchy.path().display());
    }
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        ensure!(!line.contains(&format!("{}/", root.display())), "a process is left: {line}");
    }
    let blocks = std::fs::read_dir("/sys/block")?.flatten();
    for file in
        blocks.filter_map(|entry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok())
    {
        ensure!(!file.contains(&root.display().to_string()), "a loop device is left: {file}");
    }
    Ok(())
}
