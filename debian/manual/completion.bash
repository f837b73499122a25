# Completion of $program for bash; written by debian/manual from the command line itself.
# shellcheck shell=bash

_${function}_sets() {
    $sets
}

_${function}_places() {
    $places
}

# Names in the set of the line; a copy elsewhere takes too long.
_${function}_names() {
    local word of=latest
    for word in "$${COMP_WORDS[@]}"; do
        case $$word in
            --from) return ;;
            [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]_*) of=$$word ;;
        esac
    done
    gitlab-mm names "$$1" "$$of" 2>/dev/null
}

_$function() {
    local at=$program word i words='' options='' sets='' places='' paths='' names=''
    local cur=$${COMP_WORDS[COMP_CWORD]} prev=$${COMP_WORDS[COMP_CWORD - 1]}
    # bash splits --option=value into three words.
    if [[ $$cur == '=' ]]; then
        cur=''
    elif [[ $$prev == '=' ]]; then
        prev=$${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="$$at $${COMP_WORDS[i]}"
        case $$word in
            $verbs) at=$$word ;;
        esac
    done
    case "$$at $$prev" in
$values        *)
            _${function}_offer
            ;;
    esac
    [[ $$cur == -* && $$options ]] && words=$$options sets='' places='' paths=''
    [[ $$sets && $$cur != */* ]] && words+=" $$(_${function}_sets)"
    [[ $$names ]] && words=$$(_${function}_names "$$names")
    [[ $$places && $$cur != */* ]] && words=$$(_${function}_places)
    [[ $$paths == begun && $$cur != [./~]* && $$cur != */* ]] && paths=''
    mapfile -t COMPREPLY < <(compgen -W "$$words" -- "$$cur")
    if [[ $$paths ]]; then
        compopt -o filenames
        mapfile -t -O "$${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$$cur")
    fi
}

# What may stand after the verb; sets the variables of its caller.
_${function}_offer() {
    case $$at in
$offers    esac
}

complete -F _$function $program
