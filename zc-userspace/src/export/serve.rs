//! The HTTP server: an accept loop that bounds what clients can take of a privileged daemon.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::listen::{Accepting, Listener, Stream};
use super::web::Web;

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take over its request's head; an idle connection is closed after it, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take over the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How large a request's head may be, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long answers may go on after the stop.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop` is done, then finishes the answers under way. Speaks TLS if the web configuration has it.
///
/// # Errors
/// If a listener can't be used.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    web: Option<Arc<Web>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let connections = Arc::new(GracefulShutdown::new());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let listener = Accepting::new(listener)?;
        let server = Server { router: router.clone(), web: web.clone(), connections: Arc::clone(&connections) };
        accepting.spawn(server.accept(listener, Arc::clone(&places)));
    }
    stop.await;
    accepting.shutdown().await;
    // The tasks that accept are gone, and with them the other holders.
    if let Some(connections) = Arc::into_inner(connections)
        && tokio::time::timeout(GRACE, connections.shutdown()).await.is_err()
    {
        debug!("some clients did not finish in time");
    }
    Ok(())
}

/// What every connection of a listener shares.
struct Server {
    router: Router,
    web: Option<Arc<Web>>,
    connections: Arc<GracefulShutdown>,
}

impl Server {
    async fn accept(self, listener: Accepting, places: Arc<Semaphore>) {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok(stream) => {
                    let tls = self.web.as_ref().and_then(|web| web.current().tls.clone());
                    let (router, watcher) = (self.router.clone(), self.connections.watcher());
                    tokio::spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => connection(stream, tls, router, watcher).await,
                            Stream::Unix(stream) => connection(stream, tls, router, watcher).await,
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, or a client that was gone at once: neither ends the daemon.
                    warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
) {
    let Some(tls) = tls else { return talk(stream, router, watcher).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, router, watcher).await,
        Ok(Err(error)) => debug!(%error, "no TLS with a client"),
        Err(_) => debug!("a client took too long over the TLS handshake"),
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, router: Router, watcher: Watcher) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let service = TowerToHyperService::new(router);
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
        debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn serves_bounds_heads_and_stops_with_an_idle_client() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let router = Router::new().route("/", get(async || "here"));
            let server = tokio::spawn(serve(vec![Listener::Tcp(listener)], router, None, async {
                let _ = stopped.await;
            }));
            let answer = ask(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
            let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(MAX_HEAD));
            assert!(ask(address, &long).await.starts_with("HTTP/1.1 431"));
            let _idle = TcpStream::connect(address).await.unwrap();
            stop.send(()).unwrap();
            tokio::time::timeout(GRACE * 2, server).await.expect("stops in time").unwrap().unwrap();
            assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        });
    }
}
