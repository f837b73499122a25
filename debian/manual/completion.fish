# Completion of $program for fish; written by debian/manual from the command line itself.

function __${function}_at
    set -l at $program
    for word in (commandline -opc)[2..-1]
        switch "$$at $$word"
            case $verbs
                set at "$$at $$word"
        end
    end
    test "$$at" = "$$argv"
end

function __${function}_sets
    $sets
end

function __${function}_places
    $places
end

# Names in the set of the line; a copy elsewhere takes too long.
function __${function}_names
    set -l of latest
    for word in (commandline -opc)
        string match -q -- '--from*' $$word; and return
        string match -qr '^\d{10}_' -- $$word; and set of $$word
    end
    gitlab-mm names $$argv[1] $$of 2>/dev/null
end

# Files, where a path is begun.
function __${function}_begun
    set -l word (commandline -ct)
    if string match -qr '^[./~]|/' -- $$word
        __fish_complete_path $$word
    end
end

complete -c $program -f
$lines
