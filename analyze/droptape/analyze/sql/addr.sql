-- addr(text): the 16 bytes of an address written as text, the inverse of addr_text.
-- For conditions on the views of the schema raw, which need no text for any row:
--   SELECT count(*) FROM raw.drops WHERE saddr = addr('10.0.0.7')
-- Returns a blob; an error when the text is no address.
CREATE MACRO addr(txt) AS from_hex(CASE
    WHEN contains(txt, ':')
    THEN list_transform(
        [[list_filter(string_split(split_part(txt, '::', 1), ':'), lambda g: g <> ''),
          list_filter(string_split(split_part(txt, '::', 2), ':'), lambda g: g <> '')]],
        lambda p: array_to_string(list_transform(
            p[1] || list_transform(range(8 - len(p[1]) - len(p[2])), lambda i: '0') || p[2],
            lambda g: lpad(g, 4, '0')), ''))[1]
    ELSE '00000000000000000000FFFF' || array_to_string(list_transform(
        string_split(txt, '.'), lambda o: lpad(to_hex(o::UTINYINT), 2, '0')), '')
END)
