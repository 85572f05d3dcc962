//! The port for clients: HTTP/1.1 and HTTP/2 on one port.
//!
//! Connections are taken as long as there are descriptors for clients; the others wait in the backlog. Clients whose
//! machine is gone, that say nothing at first, or that stop in the middle of a request's headers are given up: each
//! would hold a descriptor for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Sleep, sleep};
use tonic::codegen::Service;

use crate::config::Config;
use crate::requests::{ConnectionBudget, RequestBudget};
use crate::seldom::Seldom;

/// Who connects must have begun to speak within this time.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// So many bytes say whether it is HTTP/2: its preface.
const FIRST_BYTES: usize = 24;
/// How long the headers of a request of HTTP/1.1 may take, and how long the next request on the connection may not come.
/// Scrapers come back within two minutes.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(150);
/// How long a connection may be silent before TCP asks whether the other side is still there, and how often it asks: Go's.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// After so many questions without an answer it is given up.
const KEEPALIVE_PROBES: u32 = 9;
/// How many requests may have been cancelled before the server has looked at them. It looks at them when it runs again
/// after a pause of any kind, all at once, and must not take the whole connection for hostile then.
const MAX_CANCELLED_UNSEEN: usize = 16 << 10;
/// How many frames may have come for requests that were over already. Each upload that is refused as too large leaves
/// dozens, and they are counted as long as the connection lives.
const MAX_LATE_FRAMES: usize = 1 << 20;
/// How much of requests that nobody reads yet a connection, and one request, may have on the way.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The wait after a connection could not be taken, for want of anything.
const RETRY: Duration = Duration::from_millis(50);

/// What all listeners for clients share.
#[derive(Clone)]
pub(crate) struct ClientPort {
    /// The services.
    router: Router,
    http: auto::Builder<TokioExecutor>,
    /// A permit a connection.
    descriptors: Arc<Semaphore>,
    limit: usize,
    requests: RequestBudget,
}

impl ClientPort {
    /// A port with room for so many connections at a time.
    pub(crate) fn new(router: Router, connections: usize, requests: RequestBudget, config: &Config) -> Self {
        let descriptors = Arc::new(Semaphore::new(connections));
        ClientPort { router, http: http(config), descriptors, limit: connections, requests }
    }

    /// Serves clients until told to stop; then finishes what is under way.
    pub(crate) async fn serve(self, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let (mut full, mut failed) = (Seldom::default(), Seldom::default());
        loop {
            let (permit, stream) = tokio::select! {
                accepted = self.accept(&listener, &mut full) => accepted,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            match stream.and_then(|stream| prepare(&stream).map(|()| stream)) {
                Ok(stream) => self.spawn(stream, permit, &graceful),
                Err(error) => {
                    if let Some(times) = failed.again() {
                        tracing::warn!(%error, times, "cannot accept a client's connection");
                    }
                    sleep(RETRY).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    /// Takes the next connection, when there is a descriptor for it.
    async fn accept(
        &self,
        listener: &TcpListener,
        full: &mut Seldom,
    ) -> (OwnedSemaphorePermit, io::Result<TcpStream>) {
        let permit = match self.descriptors.clone().try_acquire_owned() {
            Err(TryAcquireError::NoPermits) => {
                if let Some(times) = full.again() {
                    tracing::warn!(
                        limit = self.limit,
                        times,
                        "as many clients are connected as there are descriptors for them: others wait (`ulimit -n` \
                         raises the limit)"
                    );
                }
                self.descriptors.clone().acquire_owned().await
            }
            permit => permit.map_err(|_| unreachable!("the semaphore is never closed")),
        };
        let permit = permit.expect("the semaphore is never closed");
        (permit, listener.accept().await.map(|(stream, _)| stream))
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit, graceful: &GracefulShutdown) {
        let services = Services { router: self.router.clone(), budget: self.requests.of_connection() };
        let service = TowerToHyperService::new(services);
        let stream = TokioIo::new(Speaking::new(stream));
        let connection = graceful.watch(self.http.serve_connection(stream, service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection broke");
            }
            drop(permit);
        });
    }
}

/// The services, to one connection.
#[derive(Clone)]
struct Services {
    router: Router,
    budget: ConnectionBudget,
}

impl<B> Service<Request<B>> for Services
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.router.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.budget.clone());
        self.router.call(request)
    }
}

fn http(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    let mut http2 = http.http2();
    http2.timer(TokioTimer::new());
    http2.initial_stream_window_size(STREAM_WINDOW_BYTES).adaptive_window(false);
    http2.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http2.max_concurrent_streams(config.max_concurrent_streams);
    http2.max_pending_accept_reset_streams(MAX_CANCELLED_UNSEEN);
    http2.max_local_error_reset_streams(MAX_LATE_FRAMES);
    // As in etcd, either of them switches the questions off.
    if !config.grpc_keepalive_interval.is_zero() && !config.grpc_keepalive_timeout.is_zero() {
        http2.keep_alive_interval(config.grpc_keepalive_interval);
        http2.keep_alive_timeout(config.grpc_keepalive_timeout);
    }
    http
}

/// Small answers leave at once, and a client that is gone without a word is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    // What was sent and is not acknowledged is given up as late. Elsewhere the system's own, longer time counts.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE_INTERVAL * (KEEPALIVE_PROBES + 1)))?;
    Ok(())
}

/// A connection whose other side has to begin to speak in time.
struct Speaking<S> {
    stream: S,
    /// How many bytes have not come yet of those that say what the other side speaks.
    missing_bytes: usize,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Speaking<S> {
    fn new(stream: S) -> Speaking<S> {
        let alarm = Some(Box::pin(sleep(FIRST_BYTES_TIMEOUT)));
        Speaking { stream, missing_bytes: FIRST_BYTES, alarm }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Speaking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if self.alarm.is_some() {
                self.missing_bytes = self.missing_bytes.saturating_sub(buffer.filled().len() - before);
                self.alarm = self.alarm.take().filter(|_| self.missing_bytes > 0);
            }
            return Poll::Ready(result);
        }
        let Some(alarm) = &mut self.alarm else { return Poll::Pending };
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it said nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Speaking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_first_is_given_up_and_who_has_spoken_may_be_silent() {
        for said_bytes in [0, FIRST_BYTES - 1] {
            let (mut client, server) = duplex(64);
            let mut server = Speaking::new(server);
            client.write_all(&vec![7; said_bytes]).await.expect("there is room");
            let error = server.read_to_end(&mut Vec::new()).await.expect_err("too late");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said_bytes}");
        }
        let (mut client, server) = duplex(64);
        let mut server = Speaking::new(server);
        client.write_all(&[7; FIRST_BYTES]).await.expect("there is room");
        let mut all = Vec::new();
        assert!(timeout(FIRST_BYTES_TIMEOUT * 1000, server.read_to_end(&mut all)).await.is_err());
        assert_eq!(all.len(), FIRST_BYTES);
    }

    #[tokio::test]
    async fn tcp_asks_whether_a_client_is_still_there() {
        let listener = crate::descriptors::listen(([127, 0, 0, 1], 0).into()).expect("a port");
        let client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a connection");
        prepare(&stream).expect("the system can");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("known"));
        assert_eq!(socket.tcp_keepalive_time().expect("known"), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_interval().expect("known"), KEEPALIVE_INTERVAL);
        drop(client);
    }
}
