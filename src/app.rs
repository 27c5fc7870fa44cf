//! Assembly: from settings to a running server, and back down.
