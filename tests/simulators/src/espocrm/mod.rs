//! A strict simulator of EspoCRM 9.3.
