//! Simulator of Microsoft Graph: calendars, tasks and sign-in.
