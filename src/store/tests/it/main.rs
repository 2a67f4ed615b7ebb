//! The store against a real database: a SQLite file of its own for each test, or the database that `TEST_DATABASE_URL` names
//! (`postgres://` or `mysql://`), which is emptied before each test and used by one test at a time.

#[cfg(test)]
mod deadlocks;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod links;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod world;
#[cfg(test)]
mod writing;
