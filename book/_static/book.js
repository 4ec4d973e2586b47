// A page opened from a folder may not fetch others, so the search can name the pages found, but not quote them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
