//! `cargo xtask lab`: the Kubernetes lab from the command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;
use mailcluster_lab::{Lab, Options, VolumeSpec};

/// The lab's commands.
#[derive(Subcommand)]
pub enum Command {
    /// Bring up a cluster (about a minute; the first time about 12 minutes of downloads and builds)
    Up {
        /// How many nodes, 1 to 9
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// How many API servers on the one etcd, 1 or 2
        #[arg(long, default_value_t = 1)]
        api_servers: usize,
    },
    /// End the cluster and remove all of it but its logs and caches
    Down,
    /// Show what runs
    Status,
    /// Print shell commands that set KUBECONFIG and PATH: eval "$(cargo xtask lab env)"
    Env,
    /// Cut a node's power: what wasn't synced is lost
    PowerOff {
        /// The node's name
        node: String,
    },
    /// Switch a node on
    PowerOn {
        /// The node's name
        node: String,
    },
    /// Cut a node off the network; its pods go on running
    Partition {
        /// The node's name
        node: String,
        /// Only from the API servers (`api`) or from another node
        #[arg(long)]
        from: Option<String>,
    },
    /// Take back every partition of a node
    Heal {
        /// The node's name
        node: String,
    },
    /// Stop all processes of a pod where they are
    PausePod(Pod),
    /// Let the processes of a paused pod go on
    ResumePod(Pod),
    /// Kill the processes of a pod's containers
    KillPod(Pod),
    /// Kill the API servers, or one of them
    ApiDown {
        /// 1 or 2; all when left out
        server: Option<usize>,
    },
    /// Start the API servers, or one of them, again
    ApiUp {
        /// 1 or 2; all when left out
        server: Option<usize>,
    },
    /// Container images
    #[command(subcommand)]
    Images(Images),
    /// Volumes
    #[command(subcommand)]
    Volumes(Volumes),
    #[command(hide = true)]
    Daemon { cache: PathBuf },
    #[command(hide = true)]
    NodeInit { cache: PathBuf, node: String },
    #[command(hide = true)]
    ContainerHook,
    #[command(hide = true)]
    Guard { cache: PathBuf, id: String },
}

/// A pod.
#[derive(clap::Args)]
pub struct Pod {
    /// The pod's name
    pod: String,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// What can be done with images.
#[derive(Subcommand)]
pub enum Images {
    /// Load an image archive (OCI or docker) into every node
    Load {
        /// The archive
        file: PathBuf,
    },
}

/// What can be done with volumes.
#[derive(Subcommand)]
pub enum Volumes {
    /// Make a volume and its PersistentVolume (class mail-local)
    Create {
        /// The PersistentVolume's name
        name: String,
        /// The nodes that reach it, with commas between
        #[arg(long, value_delimiter = ',', required = true)]
        nodes: Vec<String>,
        /// Its size in MiB
        #[arg(long, default_value_t = 1024)]
        mebibytes: u64,
    },
}

/// Runs one of the lab's commands.
///
/// # Errors
/// The machine isn't fit for a lab, none is up, or the command failed.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { nodes, api_servers } => up(nodes, api_servers),
        Command::Down => Lab::down(),
        Command::Daemon { cache } => mailcluster_lab::run_daemon(&cache),
        Command::NodeInit { cache, node } => mailcluster_lab::run_node(&cache, &node),
        Command::ContainerHook => mailcluster_lab::run_container_hook(),
        Command::Guard { cache, id } => mailcluster_lab::run_guard(&cache, &id),
        other => with_lab(&Lab::attach()?, other),
    }
}

fn up(nodes: usize, api_servers: usize) -> Result<()> {
    if let Ok(lab) = Lab::attach() {
        let state = lab.state()?;
        if (state.nodes.len(), state.api_servers.len()) != (nodes, api_servers) {
            bail!(
                "a lab with {} nodes and {} API servers is up already: `cargo xtask lab down` ends it",
                state.nodes.len(),
                state.api_servers.len()
            );
        }
        println!("the lab is up already\n{}", lab.status()?);
        return Ok(());
    }
    let lab = Lab::up(&Options { nodes, api_servers, keep: true, ..Options::default() })?;
    println!("{}\n\n  eval \"$(cargo xtask lab env)\"   # then: kubectl get nodes", lab.status()?);
    Ok(())
}

fn with_lab(lab: &Lab, command: Command) -> Result<()> {
    match command {
        Command::Status => println!("{}", lab.status()?),
        Command::Env => println!("{}", lab.environment()?),
        Command::PowerOff { node } => lab.power_off(&node)?,
        Command::PowerOn { node } => lab.power_on(&node)?,
        Command::Partition { node, from: None } => lab.partition(&node)?,
        Command::Partition { node, from: Some(peer) } => lab.partition_from(&node, &peer)?,
        Command::Heal { node } => lab.heal(&node)?,
        Command::PausePod(Pod { pod, namespace }) => lab.pause_pod(&namespace, &pod)?,
        Command::ResumePod(Pod { pod, namespace }) => lab.resume_pod(&namespace, &pod)?,
        Command::KillPod(Pod { pod, namespace }) => lab.kill_pod(&namespace, &pod)?,
        Command::ApiDown { server } => lab.api_down(server)?,
        Command::ApiUp { server } => lab.api_up(server)?,
        Command::Images(Images::Load { file }) => lab.load_image(&file)?,
        Command::Volumes(Volumes::Create { name, nodes, mebibytes }) => {
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            lab.create_volumes(&[VolumeSpec::new(&name, &nodes, mebibytes << 20)])?;
        }
        // Those that need no lab were run before.
        _ => {}
    }
    Ok(())
}
