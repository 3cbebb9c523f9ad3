-- The rows of a table that has one for each change, in a span of time. What was true at the start is
-- a row at the start: the last one before it of each key.
-- {rows}: all rows. {keys}: the columns that say whose state it is. {start}, {end}: ns since 1970.
-- {columns}: those of {rows}; {moved}: the same, with {start} for ts_ns.
-- Columns: {columns}.
SELECT {columns} FROM {rows} AS s WHERE ts_ns >= {start} AND ts_ns < {end}
UNION ALL
SELECT {moved}
FROM (
    SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY ts_ns DESC) AS newest
    FROM {rows} AS s
    WHERE ts_ns < {start}
) AS b
WHERE newest = 1
