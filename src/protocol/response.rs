//! What a client is answered, in words that every protocol shares; `Reject` is an answer, not an
//! error: the stream goes on.
