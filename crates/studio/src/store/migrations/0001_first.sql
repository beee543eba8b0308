-- A set of images with boxes. `root` is the folder that it was read from; times are milliseconds since 1970.
CREATE TABLE datasets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('importing', 'ready', 'failed')),
    origin TEXT NOT NULL CHECK (origin IN ('folder', 'upload', 'sample')),
    root TEXT NOT NULL,
    classes TEXT NOT NULL DEFAULT '[]',   -- JSON: names by class number
    audit TEXT,                           -- JSON: what the check found; none while it goes on
    error TEXT,                           -- JSON: message and hint, where state is failed
    revision INTEGER NOT NULL DEFAULT 0,  -- grows with every change of a box, a class or a split
    created INTEGER NOT NULL
) STRICT;

-- `boxes` is JSON: [[class, centre x, centre y, width, height], ...], fractions of the image's sides.
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('train', 'val', 'test')),
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    boxes TEXT NOT NULL,
    box_count INTEGER NOT NULL,
    faults INTEGER NOT NULL DEFAULT 0,
    usable INTEGER NOT NULL DEFAULT 1,    -- 1; 0: the picture is damaged; 2: a label was wrong and nobody has looked yet
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX images_in_order ON images (dataset, position);
-- With the count, so that a data set's figures need no image's row.
CREATE INDEX images_by_split ON images (dataset, split, position, box_count);
CREATE INDEX images_with_faults ON images (dataset, position) WHERE faults > 0;
CREATE INDEX images_without_boxes ON images (dataset, position) WHERE box_count = 0;

-- Which classes an image shows, for filters. `position` and `split` are the image's.
CREATE TABLE image_classes (
    dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    class INTEGER NOT NULL,
    position INTEGER NOT NULL,
    split TEXT NOT NULL,
    boxes INTEGER NOT NULL,
    PRIMARY KEY (dataset, class, position)
) STRICT, WITHOUT ROWID;

-- A snapshot that never changes: a YOLO data set of its own below `root`. `hash` covers names, images and boxes.
CREATE TABLE versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    hash TEXT NOT NULL,
    note TEXT NOT NULL,
    root TEXT NOT NULL,
    images INTEGER NOT NULL,
    boxes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (dataset, number)
) STRICT;

CREATE TABLE models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('found', 'upload', 'run')),
    path TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    about TEXT NOT NULL,                  -- JSON: format, family, task, classes, parameters, licence, input size
    job INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'stopping', 'stopped', 'done', 'failed')),
    version INTEGER REFERENCES versions (id) ON DELETE SET NULL,
    model TEXT NOT NULL,                  -- what the worker is given: a file or a registered name
    model_name TEXT NOT NULL,
    strategy TEXT NOT NULL,
    arguments TEXT NOT NULL,              -- JSON: [[name, text], ...]
    attempt INTEGER NOT NULL DEFAULT 0,   -- workers started so far
    crashes INTEGER NOT NULL DEFAULT 0,   -- workers in a row that ended without an outcome or a new epoch
    epochs INTEGER NOT NULL,              -- asked for
    summary TEXT,                         -- JSON: the worker's document
    error TEXT,                           -- JSON: message, causes and hint
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, id);

-- A run's curves: one row a figure and epoch. Names: loss/box, metric/mAP50, speed, data_wait and the like.
CREATE TABLE figures (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (job, name, epoch)
) STRICT, WITHOUT ROWID;

-- Files on their way in, or in and not used yet. The file's length says how much has come.
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

-- Folders that a browser was shown: it names them by id, never by path.
CREATE TABLE folders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE
) STRICT;
