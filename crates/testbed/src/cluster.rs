//! Several hosts on a network of their own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::containers::{self, Containers};
use crate::server::Server;
use crate::{Disk, Fs, Mount, Scene, Volume, VolumeBuilder, process, run, wait_until};

/// TEST-NET-1, which no real network uses.
const NETWORK: &str = "192.0.2";
const FIRST_NODE: usize = 11;
const CLIENT: &str = "192.0.2.10";
/// How long a host may be silent until others take it for gone, in seconds. GlusterFS waits 42 unless told otherwise.
const PING_TIMEOUT: &str = "5";
const PEERS_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(60);

/// Lets glusterd take its peers for gone after $1 seconds. It sends pings only while it waits for an answer, in vain then:
/// what tells it in time is TCP.
const NOTICE_SILENCE: &str = r#"
sed -e '/keepalive/d' -e '/ping-timeout/d' -e "/transport-type/a\
    option ping-timeout $1\
    option transport.tcp-user-timeout $1\
    option transport.socket.keepalive-time 2\
    option transport.socket.keepalive-interval 1" /etc/glusterfs/glusterd.vol >/run/private/glusterd.vol
mount --bind /run/private/glusterd.vol /etc/glusterfs/glusterd.vol
"#;

/// Hosts with a glusterd each, the *nodes*, and a host for mounts, the *client*. Each is a [`Scene`] with an address; they
/// are wired to the switch, which is one more scene. Nodes are counted from 0.
///
/// All ends as scenes do. The network of the machine is left alone.
///
/// With `FSNAP_CONTAINERS=PROJECT` in the environment they are the three nodes and the client of docker/compose.yaml, which
/// run already and stay: only one cluster at a time then. Each has one disk, and the translator that the image brought.
pub struct Cluster {
    nodes: Vec<Server>,
    client: Scene,
    wires: Wires,
}

/// What connects the hosts.
enum Wires {
    Switch(Scene),
    Docker(Containers),
}

impl Cluster {
    /// Sets up a cluster of so many nodes, with the addresses 192.0.2.11, 192.0.2.12, …, and makes them peers.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(nodes: usize) -> Cluster {
        match Containers::from_env() {
            Some(containers) => Cluster::of_containers(nodes, containers),
            None => Cluster::of_scenes(nodes),
        }
    }

    fn of_scenes(nodes: usize) -> Cluster {
        let switch = Scene::new();
        switch.shell("ip link add switch type bridge; ip link set switch up", &[]);
        let node = |n: usize| {
            let address = format!("{NETWORK}.{}", FIRST_NODE + n);
            Server::at(&wired(&switch, &port(n), &address), &address)
        };
        let nodes: Vec<Server> = (0..nodes).map(node).collect();
        let client = wired(&switch, "client", CLIENT);
        let cluster = Cluster { nodes, client, wires: Wires::Switch(switch) };
        for node in &cluster.nodes {
            node.scene.shell(NOTICE_SILENCE, &[PING_TIMEOUT.as_ref()]);
            node.scene.start_glusterd();
        }
        cluster.probe();
        cluster
    }

    fn of_containers(nodes: usize, containers: Containers) -> Cluster {
        let names: Vec<String> = (0..nodes).map(Containers::node).collect();
        containers.reset(&names);
        let node = |name: &String| Server::at(&containers.scene(name), name);
        let nodes: Vec<Server> = names.iter().map(node).collect();
        let client = containers.scene("client");
        nodes.iter().for_each(|node| containers::await_glusterd(&node.scene));
        let cluster = Cluster { nodes, client, wires: Wires::Docker(containers) };
        cluster.probe();
        containers::empty(&cluster.nodes[0].scene);
        for node in &cluster.nodes {
            node.scene.shell("rm -rf /brick/*", &[]);
        }
        cluster
    }

    fn probe(&self) {
        let (first, others) = self.nodes.split_first().expect("a cluster has a node");
        for other in others {
            let probe = first.scene.gluster(["peer", "probe", &other.address(0)]);
            probe.unwrap_or_else(|error| panic!("{error}"));
        }
        self.await_peers();
    }

    /// The scene of node `n`.
    pub fn node(&self, n: usize) -> &Scene {
        &self.nodes[n].scene
    }

    /// The scene for mounts.
    pub fn client(&self) -> &Scene {
        &self.client
    }

    /// Makes a translator visible on every node; see [`Scene::install_translator`]. In containers it is there already.
    ///
    /// # Panics
    /// As that does.
    pub fn install_translator(&self, so: impl AsRef<Path>, name: &str) {
        if let Wires::Switch(_) = self.wires {
            self.nodes.iter().for_each(|node| node.scene.install_translator(&so, name));
        }
    }

    /// Makes `count` disks on every node, mounted there at `/run/scene/b1`, `/run/scene/b2`, … The first disk of each node
    /// comes first, then the second of each, so that copies of a file on neighbouring bricks are on several nodes.
    ///
    /// In containers they are directories of the node's one disk.
    ///
    /// # Panics
    /// As [`Scene::disk`] does.
    pub fn disks(&self, count: usize, fs: Fs, bytes: u64) -> Vec<Disk> {
        let disk = |scene: &Scene, n| match self.wires {
            Wires::Switch(_) => scene.disk(fs, bytes, format!("/run/scene/b{n}")),
            Wires::Docker(_) => scene.part_of_disk(format!("/brick/b{n}")),
        };
        let disks = |n| self.nodes.iter().map(move |node| disk(&node.scene, n));
        (1..=count).flat_map(disks).collect()
    }

    /// Begins a volume. Its mounts will be in the client's scene, and served by whichever node is up.
    ///
    /// Its `network.ping-timeout` is 5 seconds: what is cut off is noticed after that time, not after 42 seconds.
    pub fn volume(&self, name: &str) -> VolumeBuilder {
        let volume = VolumeBuilder::new(self.nodes.clone(), &self.client, name);
        volume.option("network.ping-timeout", PING_TIMEOUT)
    }

    /// Cuts node `n` off from all others: packets get lost, no connection is closed. Who has one waits out the ping
    /// timeout, also with writes; for glusterds see [`Cluster::await_peers`].
    ///
    /// # Panics
    /// If the network does not do it.
    pub fn cut(&self, n: usize) {
        self.nodes[n].set_away(true);
        match &self.wires {
            Wires::Switch(switch) => set_port(switch, n, "down"),
            Wires::Docker(containers) => containers.disconnect(&Containers::node(n)),
        }
    }

    /// Ends [`Cluster::cut`].
    ///
    /// # Panics
    /// If the network does not do it.
    pub fn join(&self, n: usize) {
        match &self.wires {
            Wires::Switch(switch) => set_port(switch, n, "up"),
            Wires::Docker(containers) => containers.connect(&Containers::node(n)),
        }
        self.nodes[n].set_away(false);
    }

    /// Kills all of GlusterFS on node `n` with SIGKILL: glusterd, bricks, self-heal daemon. In containers the whole node.
    ///
    /// # Panics
    /// If they do not die.
    pub fn kill_node(&self, n: usize) {
        let node = &self.nodes[n];
        node.set_away(true);
        if let Wires::Docker(containers) = &self.wires {
            return containers.kill(&Containers::node(n), &node.scene);
        }
        let mut killed = Vec::new();
        wait_until(&format!("node {n} is dead"), END_WITHIN, || {
            // Once more: they may have been starting others.
            let alive = process::of_gluster(node.scene.pid());
            alive.iter().for_each(|&pid| process::signal_if_there(pid, Signal::SIGKILL));
            killed.extend(&alive);
            alive.is_empty() && killed.iter().all(|&pid| process::is_gone(pid))
        });
    }

    /// Starts glusterd on node `n` after [`Cluster::kill_node`]. It starts the bricks and the self-heal daemon.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_node(&self, n: usize) {
        match &self.wires {
            Wires::Switch(_) => self.node(n).start_glusterd(),
            Wires::Docker(containers) => {
                containers.start(&Containers::node(n), self.node(n));
                containers::await_glusterd(self.node(n));
            }
        }
        self.nodes[n].set_away(false);
    }

    /// Waits until the nodes that are neither cut off nor dead are connected to each other, and to no other. Until then,
    /// gluster commands may fail.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn await_peers(&self) {
        let present: Vec<&Server> = self.nodes.iter().filter(|node| !node.is_away()).collect();
        for node in &present {
            wait_until(&format!("{} has its peers", node.address(0)), PEERS_WITHIN, || {
                let status = node.scene.gluster(["peer", "status"]).unwrap_or_default();
                status.matches("State: Peer in Cluster (Connected)").count() == present.len() - 1
            });
        }
    }

    /// Waits until all is there again: peers, the bricks of the volume, and the mount's connections to them.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn await_back(&self, volume: &Volume, mount: &Mount) {
        self.await_peers();
        volume.await_bricks();
        mount.wait_connected(volume.bricks().len());
    }
}

fn set_port(switch: &Scene, n: usize, state: &str) {
    run(switch.command("ip").args(["link", "set", &port(n), state]));
}

/// The switch's port for node `n`.
fn port(n: usize) -> String {
    format!("node{n}")
}

/// A new scene with an address and a name of its own, wired to the port of that name of the switch.
fn wired(switch: &Scene, port: &str, address: &str) -> Scene {
    let scene = Scene::new();
    // A client takes bricks whose host has the same name for local.
    scene.shell("echo \"$1\" >/proc/sys/kernel/hostname", &[port.as_ref()]);
    // Only the switch's network: the scene is to be known by its pid.
    let mut link = Command::new("nsenter");
    link.arg("-t").arg(switch.pid().to_string()).args(["-n", "ip", "link", "add", port, "type", "veth"]);
    run(link.args(["peer", "name", "eth0", "netns"]).arg(scene.pid().to_string()));
    run(switch.command("ip").args(["link", "set", port, "master", "switch", "up"]));
    scene.shell("ip address add \"$1/24\" dev eth0; ip link set eth0 up", &[address.as_ref()]);
    scene
}
