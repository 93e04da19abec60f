// The LMDB environment: tables, change log, group commit.
