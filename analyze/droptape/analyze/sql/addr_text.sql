-- addr_text(blob): an address as text.
-- addr: 16 bytes in network order, IPv4 mapped (::ffff:a.b.c.d), or null.
-- Returns dotted IPv4, or IPv6 as RFC 5952 writes it; all zero bytes are '::'; null stays null.
--
-- This runs for every row that a query touches. Hence the constant list of the 256 octet texts
-- (three times faster than converting numbers) and `[x] -> lambda`, which computes x once. The number
-- is made by functions of one column that cannot fail: DuckDB runs those once for each entry of
-- Parquet's dictionary, and a slice or a cast to BIT for every row.
CREATE MACRO addr_text(addr) AS CASE
    WHEN addr BETWEEN '\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xFF\xFF\x00\x00\x00\x00'::BLOB
                  AND '\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF'::BLOB
    THEN list_transform(
        [try_cast('0x' || substr(hex(addr), 25, 8) AS BIGINT)],
        lambda v4: concat({octets}[1 + (v4 >> 24)], {dotted}[1 + ((v4 >> 16) & 255)],
            {dotted}[1 + ((v4 >> 8) & 255)], {dotted}[1 + (v4 & 255)]))[1]
    -- ':g1:g2:…:g8:', then the first of the longest runs of at least two zero groups becomes '::'.
    WHEN addr IS NOT NULL
    THEN list_transform(
        [':' || array_to_string(list_transform([1, 5, 9, 13, 17, 21, 25, 29], lambda i:
            coalesce(nullif(ltrim(substr(lower(hex(addr)), i, 4), '0'), ''), '0')), ':') || ':'],
        lambda s: coalesce(
            list_transform(
                list_filter([8, 7, 6, 5, 4, 3, 2], lambda n: contains(s, repeat(':0', n) || ':'))[1:1],
                lambda n: ltrim(substr(s, 1, instr(s, repeat(':0', n) || ':') - 1), ':') || '::'
                    || rtrim(substr(s, instr(s, repeat(':0', n) || ':') + 2 * n + 1), ':'))[1],
            trim(s, ':')))[1]
END
