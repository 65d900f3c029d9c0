//! The server's threads and connections, from the first to the last.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use super::app::App;
use super::models::{Library, Loaded};
use super::{ServeError, ServeOptions, routes};
use crate::engine::OnStep;

/// Threads for connections: the engine has its own.
const THREADS: usize = 2;

/// The pause after a connection could not be accepted, for instance because no file handle is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that listens. Until it has a model or a library it answers 503.
pub struct Server {
    runtime: Runtime,
    app: Arc<App>,
    address: SocketAddr,
    /// True: no further connections, and running answers have the drain time.
    stop: watch::Sender<bool>,
    listening: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Binds the address and starts to answer.
    ///
    /// # Errors
    /// [`ServeError::Open`] for an address that other machines can reach, without a key and without
    /// [`ServeOptions::insecure`]; [`ServeError::Listen`] if the address cannot be used.
    pub fn start(options: ServeOptions) -> Result<Server, ServeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("rfgraph-serve")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        let listener = runtime.block_on(bind(&options))?;
        let failed = |source| ServeError::Listen { host: options.host.clone(), port: options.port, source };
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() && options.keys.is_empty() && !options.insecure {
            return Err(ServeError::Open { address });
        }
        let app = Arc::new(App::new(options));
        runtime.spawn(Arc::clone(&app.models).end_expired());
        let (stop, stopped) = watch::channel(false);
        let listening = runtime.spawn(listen(listener, Arc::clone(&app), stopped));
        Ok(Server { runtime, app, address, stop, listening })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Receives each step of the engine of the model with this id, for the metrics.
    pub fn on_step(&self, model: &str) -> OnStep {
        self.app.models.on_step(model)
    }

    /// Sets the models that are loaded when they are asked for. A second library is ignored.
    pub fn set_library(&self, library: Arc<dyn Library>) {
        self.app.models.set_library(library);
    }

    /// Loads a model of the library before a request asks for it.
    ///
    /// # Errors
    /// The reason why it cannot be loaded.
    pub fn load(&self, name: &str) -> Result<(), String> {
        let found = self.runtime.block_on(self.app.models.find(Some(name)));
        found.map(drop).map_err(|error| error.message)
    }

    /// Adds a model that answers and is never unloaded, or sets the reason why there is none.
    pub fn set_model(&self, loaded: Result<Loaded, String>) {
        self.app.models.set(loaded);
    }

    /// Waits for a signal to end (SIGTERM, Ctrl-C), or for the engine's end. Then accepts no connection, gives running
    /// answers the drain time, and stops the engine; a second signal ends at once. Returns true if all answers ended by
    /// themselves.
    pub fn run_until_signal(self) -> bool {
        self.runtime.block_on(signal());
        tracing::info!("stopping: running answers have {} s", self.app.options.drain_time.as_secs());
        let app = Arc::clone(&self.app);
        let stopped = self.runtime.block_on(async move {
            // The receiver lives as long as the task that listens.
            let _ = self.stop.send(true);
            tokio::select! {
                _ = self.listening => true,
                () = signal() => false,
            }
        });
        app.models.stop();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        stopped
    }

    /// Stops as a signal does.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        // A task that panicked has ended too.
        let _ = self.runtime.block_on(self.listening);
        self.app.models.stop();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn bind(options: &ServeOptions) -> Result<TcpListener, ServeError> {
    let (host, port) = (options.host.as_str(), options.port);
    let failed = |source| ServeError::Listen { host: host.to_string(), port, source };
    TcpListener::bind((host, port)).await.map_err(failed)
}

/// Waits for SIGTERM, SIGINT or their like.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let both = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
        if let Ok((mut terminate, mut interrupt)) = both {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
    }
    // Without a handler the system's own one ends the process.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Accepts connections until it is told to stop, and waits for the last answers.
async fn listen(listener: TcpListener, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let router = routes::router(Arc::clone(&app));
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(app.options.max_connections));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(app.options.read_timeout).max_headers(128);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stopped.changed() => break,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Tokens are small writes that must not wait for each other.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that left, or that speaks no HTTP.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    within(app.options.drain_time, graceful.shutdown()).await;
}

async fn within(time: Duration, work: impl Future<Output = ()>) {
    if tokio::time::timeout(time, work).await.is_err() {
        tracing::warn!("answers did not end within {} s, and are cut", time.as_secs());
    }
}

/// Accepts a connection when there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}
