-- What the pictures of a data set are labelled with: boxes, or one class each. Of a picture with one class the box is the
-- whole picture: [[class, 0.5, 0.5, 1, 1]].
ALTER TABLE datasets ADD COLUMN task TEXT NOT NULL DEFAULT 'detect' CHECK (task IN ('detect', 'classify'));

-- 1: a model drew the boxes, and nobody has looked at them yet.
ALTER TABLE images ADD COLUMN suggested INTEGER NOT NULL DEFAULT 0;
CREATE INDEX images_suggested ON images (dataset, position) WHERE suggested = 1;

-- What the check found on each image, for remedies. `mended`: a remedy was applied.
CREATE TABLE image_faults (
    image INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    error INTEGER NOT NULL,
    mended INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (image, kind)
) STRICT, WITHOUT ROWID;
