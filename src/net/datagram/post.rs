//! Batches of datagrams in and out, each with the addresses on it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::protocol::udp::DATAGRAM_MAX;
use crate::stats::WorkerCounters;

/// Datagrams in one batch.
const BATCH: usize = 32;

/// Longest datagram there is.
const RECEIVED_MAX: usize = 1 << 16;

/// Datagrams that the kernel cuts one piece of data into (`UDP_SEGMENT`): as many as one IP packet
/// could hold.
const SEGMENTS_MAX: usize = 65_507 / DATAGRAM_MAX;

/// The segments' size, as the kernel wants to be told.
const SEGMENT: u16 = 1400;
const _: () = assert!(SEGMENT as usize == DATAGRAM_MAX);

/// The address on this machine that a datagram was sent to, with the interface where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'l> {
    pub(super) content: &'l [u8],
    pub(super) from: SocketAddr,
    to: Option<Local>,
}

#[derive(Debug)]
struct Received {
    len: usize,
    from: SocketAddr,
    to: Option<Local>,
}

/// Datagrams received together.
#[derive(Debug)]
pub(super) struct Inbox {
    room: Box<[u8]>,
    received: Vec<Received>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let room = vec![0; BATCH * RECEIVED_MAX].into_boxed_slice();
        Inbox { room, received: Vec::with_capacity(BATCH) }
    }

    /// Takes what has come, in place of what came before.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<()> {
        self.received.clear();
        // The kernel shortens the lengths in the headers: each batch needs new ones.
        let space = cmsg_space!(in6_pktinfo);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(space));
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.room.chunks_mut(RECEIVED_MAX).map(|room| [IoSliceMut::new(room)]).collect();
        let messages =
            recvmmsg(socket, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.received.extend(messages.map(|message| Received {
            len: message.bytes,
            // Without an address to answer to it is dropped as a sender's that is no client.
            from: message.address.as_ref().and_then(socket_addr).unwrap_or(NOBODY),
            to: local(&message),
        }));
        Ok(())
    }

    pub(super) fn letters(&self) -> impl Iterator<Item = Letter<'_>> {
        self.received.iter().zip(self.room.chunks(RECEIVED_MAX)).map(|(received, room)| Letter {
            content: &room[..received.len.min(RECEIVED_MAX)],
            from: received.from,
            to: received.to,
        })
    }
}

const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in().map(|&addr| SocketAddrV4::from(addr).into());
    four.or_else(|| storage.as_sockaddr_in6().map(|&addr| SocketAddrV6::from(addr).into()))
}

fn local(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Local> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Local::V4(info.ipi_spec_dst.s_addr.to_ne_bytes().into()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let addr = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // Only a link's own addresses need to be told from those of other links.
            let index = if addr.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            Some(Local::V6(addr, index))
        }
        _ => None,
    })
}

/// One or more datagrams of one answer, to be sent in one piece.
#[derive(Debug)]
struct Parcel {
    content: Range<usize>,
    to: SocketAddr,
    from: Option<Local>,
}

impl Parcel {
    fn is_segmented(&self) -> bool {
        self.content.len() > DATAGRAM_MAX
    }
}

/// Datagrams to be sent together, in their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    content: Vec<u8>,
    parcels: Vec<Parcel>,
    /// The kernel or the network does not cut data into datagrams for us.
    uncut: bool,
}

impl Outbox {
    /// Bytes that wait to be sent.
    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// Puts in what `write` appends, whole datagrams, as an answer to `letter`.
    pub(super) fn put(&mut self, letter: &Letter<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.content.len();
        write(&mut self.content);
        let whole =
            Parcel { content: before..self.content.len(), to: letter.from, from: letter.to };
        let datagrams = if self.uncut { 1 } else { SEGMENTS_MAX };
        self.parcels.extend(cut(&whole, datagrams));
    }

    /// Sends everything and waits where the kernel makes us wait. What cannot be sent to one
    /// receiver is forgotten.
    pub(super) async fn send(&mut self, socket: &UdpSocket, counters: &WorkerCounters) {
        let mut next = 0;
        while next < self.parcels.len() {
            let sent = match socket.writable().await {
                Ok(()) => {
                    socket.try_io(Interest::WRITABLE, || self.send_run(socket.as_raw_fd(), next))
                }
                Err(error) => Err(error),
            };
            match sent {
                Ok(sent) => {
                    let parcels = &self.parcels[next..next + sent];
                    let bytes: usize = parcels.iter().map(|parcel| parcel.content.len()).sum();
                    counters.bytes_written.add(bytes as u64);
                    next += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.parcels[next].is_segmented() => {
                    tracing::debug!(%error, "datagrams are sent one by one from now on");
                    self.uncut = true;
                    let rest = self.parcels.split_off(next);
                    self.parcels.extend(rest.iter().flat_map(|parcel| cut(parcel, 1)));
                }
                Err(error) => {
                    tracing::debug!(%error, "a datagram could not be sent");
                    next += 1;
                }
            }
        }
        self.parcels.clear();
        self.content.clear();
        self.content.shrink_to(1 << 20);
    }

    /// Sends from the parcel `first` on as many as one call takes: those that leave from the same
    /// address and in the same manner. Returns how many have been sent.
    fn send_run(&self, socket: RawFd, first: usize) -> io::Result<usize> {
        let head = &self.parcels[first];
        let alike = |parcel: &&Parcel| {
            parcel.from == head.from && parcel.is_segmented() == head.is_segmented()
        };
        let run: Vec<&Parcel> =
            self.parcels[first..].iter().take(BATCH).take_while(alike).collect();
        let slices: Vec<[IoSlice<'_>; 1]> = run
            .iter()
            .map(|parcel| [IoSlice::new(&self.content[parcel.content.clone()])])
            .collect();
        let to: Vec<Option<SockaddrStorage>> =
            run.iter().map(|parcel| Some(SockaddrStorage::from(parcel.to))).collect();
        let (four, six) = (four(head.from), six(head.from));
        let mut controls = Vec::with_capacity(2);
        let mut space = Vec::new();
        if let Some(info) = &four {
            controls.push(ControlMessage::Ipv4PacketInfo(info));
            space.append(&mut cmsg_space!(in_pktinfo));
        }
        if let Some(info) = &six {
            controls.push(ControlMessage::Ipv6PacketInfo(info));
            space.append(&mut cmsg_space!(in6_pktinfo));
        }
        if head.is_segmented() {
            controls.push(ControlMessage::UdpGsoSegments(&SEGMENT));
            space.append(&mut cmsg_space!(u16));
        }
        // What is reserved is sent: exactly as much as is written.
        let space = (!space.is_empty()).then(|| space.into_boxed_slice().into_vec());
        let mut headers = MultiHeaders::preallocate(run.len(), space);
        let flags = MsgFlags::MSG_DONTWAIT;
        match sendmmsg(socket, &mut headers, slices.iter(), to, controls, flags) {
            Ok(results) => Ok(results.count().max(1)),
            Err(Errno::ENOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A parcel in parcels of at most so many datagrams.
fn cut(parcel: &Parcel, datagrams: usize) -> impl Iterator<Item = Parcel> + use<> {
    let (Range { start, end }, to, from) = (parcel.content.clone(), parcel.to, parcel.from);
    let step = datagrams * DATAGRAM_MAX;
    (start..end).step_by(step).map(move |start| Parcel {
        content: start..end.min(start + step),
        to,
        from,
    })
}

fn four(from: Option<Local>) -> Option<in_pktinfo> {
    let Some(Local::V4(addr)) = from else { return None };
    let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(addr.octets()) };
    Some(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } })
}

fn six(from: Option<Local>) -> Option<in6_pktinfo> {
    let Some(Local::V6(addr, ipi6_ifindex)) = from else { return None };
    Some(in6_pktinfo { ipi6_addr: in6_addr { s6_addr: addr.octets() }, ipi6_ifindex })
}
