//! Effects: sockets, worker threads, timers. The first floor that may wait.
