#!/bin/sh
# Make man(7) of the Markdown below the folder FOLDER: NAME.8.md becomes NAME.8. debian/rules runs
# this after debian/manual. pandoc 2.9, 2.17 and 3.1 give the same pages.
set -eu
here=$(dirname "$0")
# No mark that the project's documents do not use, or that an older pandoc reads otherwise.
markdown="markdown-smart-tex_math_dollars-raw_tex-raw_html-citations-subscript-superscript"
find "$1" -name '*.md' -print | while IFS= read -r source; do
    page=${source%.md}
    pandoc --standalone --from "$markdown" --to man --lua-filter "$here/man.lua" \
        --output "$page" "$source" </dev/null
    # pandoc 2.9 and 2.17 begin a section with an empty paragraph, 2.17 tries fonts that a terminal
    # does not have and no page uses, 3.1 writes the date with other hyphens.
    sed -i -e '/^\.S[HS] /{n;/^\.PP$/d}' -e '/^\.\\" Define V font/,/^\.el/d' \
        -e '/^\. ftr /d' -e '/^\.\\}$/d' -e '/^\.TH /s/\\-/-/g' "$page"
    rm "$source"
done
