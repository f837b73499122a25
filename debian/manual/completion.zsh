#compdef $program
# Completion of $program for zsh; written by debian/manual from the command line itself.

# Names in the set of the line; a copy elsewhere takes too long.
_${function}_names() {
    local word of=latest
    for word in $$words; do
        case $$word in
            --from*) return ;;
            [0-9](#c10)_*) of=$$word ;;
        esac
    done
    gitlab-mm names $$1 $$of 2>/dev/null
}

_$function() {
    setopt local_options extended_glob
    local at=$program word previous=$${words[CURRENT - 1]} sets= places= paths= names=
    local -a offers known options
    for word in $${words[2,CURRENT - 1]}; do
        case "$$at $$word" in
            $verbs) at="$$at $$word" ;;
        esac
    done
    if [[ $$PREFIX == --*=* ]]; then
        previous=$${PREFIX%%=*}
        compset -P '*='
    fi
    case "$$at $$previous" in
$values        *)
            _${function}_offer
            ;;
    esac
    if [[ $$PREFIX == -* ]] && (( $$#options )); then
        _describe -o option options
        return
    fi
    (( $$#offers )) && _describe value offers
    (( $$#known )) && compadd -a known
    if [[ -n $$sets && $$PREFIX != */* ]]; then
        offers=($${(f)"$$($sets)"})
        (( $$#offers )) && compadd -a offers
    fi
    if [[ -n $$names ]]; then
        offers=($${(f)"$$(_${function}_names $$names)"})
        (( $$#offers )) && compadd -a offers
    fi
    if [[ -n $$places && $$PREFIX != */* ]]; then
        offers=($${(f)"$$($places)"})
        (( $$#offers )) && compadd -a offers
    fi
    [[ $$paths == begun && $$PREFIX != [./~]* && $$PREFIX != */* ]] && paths=
    [[ -n $$paths ]] && _files
}

# What may stand after the verb; sets the variables of its caller.
_${function}_offer() {
    case $$at in
$offers    esac
}

_$function "$$@"
