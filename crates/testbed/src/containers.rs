//! The containers of docker/compose.yaml as the hosts of a cluster.

use std::process::Command;
use std::time::Duration;

use crate::{Scene, run, wait_until};

const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// `node1`, `node2`, `node3` and `client`, in containers of these names behind the project's and a dash, on the network that
/// is named after the project. The caller must see the engine's processes by the engine's pids.
pub(crate) struct Containers {
    project: String,
}

impl Containers {
    /// The project that `$FSNAP_CONTAINERS` names, if it is set.
    pub(crate) fn from_env() -> Option<Containers> {
        let project = std::env::var("FSNAP_CONTAINERS").ok().filter(|project| !project.is_empty())?;
        Some(Containers { project })
    }

    /// What the others call node `n`, counted from 0.
    pub(crate) fn node(n: usize) -> String {
        format!("node{}", n + 1)
    }

    /// A running container, as a scene.
    pub(crate) fn scene(&self, host: &str) -> Scene {
        let scene = Scene::of_container(&self.container(host), self.pid(host));
        prepare(&scene);
        scene
    }

    /// Starts a container that was killed; `scene` is it.
    pub(crate) fn start(&self, host: &str, scene: &Scene) {
        docker(&["start", &self.container(host)]);
        scene.move_to(self.pid(host));
        prepare(scene);
    }

    /// Kills all that runs in a container with SIGKILL; its mounts go as well. `scene` is it.
    pub(crate) fn kill(&self, host: &str, scene: &Scene) {
        docker(&["kill", &self.container(host)]);
        scene.move_to(0);
    }

    /// Takes a container off the network.
    pub(crate) fn disconnect(&self, host: &str) {
        docker(&["network", "disconnect", &self.project, &self.container(host)]);
    }

    /// Brings it back, perhaps with another address.
    pub(crate) fn connect(&self, host: &str) {
        docker(&["network", "connect", "--alias", host, &self.project, &self.container(host)]);
    }

    /// Sets right what an earlier test may have left: everybody is there again.
    pub(crate) fn reset(&self, hosts: &[String]) {
        for host in hosts {
            docker(&["start", &self.container(host)]);
            let networks = "{{range $name, $network := .NetworkSettings.Networks}}{{$name}}{{end}}";
            if docker(&["inspect", "-f", networks, &self.container(host)]) != self.project {
                self.connect(host);
            }
        }
    }

    fn container(&self, host: &str) -> String {
        format!("{}-{host}", self.project)
    }

    fn pid(&self, host: &str) -> u32 {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.container(host)]);
        pid.parse().ok().filter(|&pid| pid > 0).unwrap_or_else(|| panic!("{host} does not run"))
    }
}

/// Makes the directories that a scene has.
fn prepare(scene: &Scene) {
    scene.shell("mkdir -p /run/scene /run/private", &[]);
}

/// Waits until the glusterd that a container brings along answers.
pub(crate) fn await_glusterd(scene: &Scene) {
    wait_until("glusterd answers", ANSWER_WITHIN, || scene.gluster(["pool", "list"]).is_ok());
}

/// Takes the volumes away that a node knows; what is on the bricks stays.
pub(crate) fn empty(scene: &Scene) {
    let volumes = scene.gluster(["volume", "list"]).unwrap_or_else(|error| panic!("{error}"));
    // It says so in a sentence if there is none.
    for volume in volumes.lines().filter(|line| !line.contains(' ')) {
        // It may be stopped.
        let _ = scene.gluster(["volume", "stop", volume, "force"]);
        scene.gluster(["volume", "delete", volume]).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn docker(words: &[&str]) -> String {
    let output = run(Command::new("docker").args(words));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
