-- The project's Markdown as manual pages want it, for pandoc 2.9 and later.

local MARKS = {
  ["\\"] = "\\e", ["-"] = "\\-", ["^"] = "\\(ha", ["~"] = "\\(ti",
  ["`"] = "\\(ga", ["'"] = "\\(aq", ['"'] = "\\(dq",
}

local function typed(text)
  return (text:gsub("[\\%-%^~`'\"]", MARKS))
end

-- What is typed is bold, with hyphens that can be copied: pandoc's own font for code does not exist
-- on a terminal, and pandoc 2 writes other hyphens.
function Code(code)
  return pandoc.Strong({pandoc.RawInline("man", typed((code.text:gsub("\\|", "|"))))})
end

function CodeBlock(block)
  local lines = {}
  for line in (block.text .. "\n"):gmatch("(.-)\n") do
    lines[#lines + 1] = typed(line):gsub("^%.", "\\&.")
  end
  return pandoc.RawBlock("man", ".PP\n.RS 4\n.EX\n" .. table.concat(lines, "\n") .. "\n.EE\n.RE")
end

-- Documents name each other by their files; only an address is shown beside its words, by every
-- pandoc in the same way.
function Link(link)
  local told = link.content
  if link.target:match("^https?://") and pandoc.utils.stringify(told) ~= link.target then
    told[#told + 1] = pandoc.Str(" (" .. link.target .. ")")
  end
  return told
end

-- A table is wider than a terminal: its first column becomes a list of terms. From the third column
-- on each cell names its column.
function Table(wide)
  local simple = pandoc.utils.to_simple_table and pandoc.utils.to_simple_table(wide) or wide
  local items = {}
  for _, row in ipairs(simple.rows) do
    local told = {}
    for column = 2, #row do
      local cell = pandoc.utils.blocks_to_inlines(row[column])
      if #row > 2 and #cell > 0 then
        local title = pandoc.utils.blocks_to_inlines(simple.headers[column])
        if #told > 0 then
          told[#told + 1] = pandoc.Str("; ")
        end
        for _, inline in ipairs(title) do told[#told + 1] = inline end
        told[#told + 1] = pandoc.Str(": ")
      end
      for _, inline in ipairs(cell) do told[#told + 1] = inline end
    end
    items[#items + 1] = {pandoc.utils.blocks_to_inlines(row[1]), {{pandoc.Plain(told)}}}
  end
  return pandoc.DefinitionList(items)
end
