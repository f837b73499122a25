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

# Files, where a path is begun.
function __${function}_begun
    set -l word (commandline -ct)
    if string match -qr '^[./~]|/' -- $$word
        __fish_complete_path $$word
    end
end

complete -c $program -f
$lines
