//! HTTP: receivers, sign-in, admin API, probes.
