//! Hosts of bricks, as volumes see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Scene;

/// A scene with a glusterd.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) scene: Scene,
    /// A scene on its own has as many addresses as it likes.
    address: Option<String>,
    away: Arc<AtomicBool>,
}

impl Server {
    /// A scene without a network.
    pub(crate) fn alone(scene: &Scene) -> Server {
        Server { scene: scene.clone(), address: None, away: Arc::default() }
    }

    /// A scene that others know by its address.
    pub(crate) fn at(scene: &Scene, address: &str) -> Server {
        Server { address: Some(address.to_owned()), ..Server::alone(scene) }
    }

    /// The address that serves number `brick` of a volume's bricks.
    pub(crate) fn address(&self, brick: usize) -> String {
        self.address.clone().unwrap_or_else(|| format!("127.1.1.{}", brick + 1))
    }

    /// Whether it is dead or cut off.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}
