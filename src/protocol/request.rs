//! What a client asks for, in words that every protocol shares. Nothing here depends on how it
//! was spelled on the wire.
